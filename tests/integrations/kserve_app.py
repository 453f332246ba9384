"""KServe's own server with a model of two lines."""

import sys

from kserve import Model, ModelServer


class Echo(Model):
    def predict(self, payload, headers=None, response_headers=None):
        return {"predictions": payload["instances"]}


model = Echo("echo")
model.ready = True
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False).start([model])
