"""A gateway that has counted one request to a model without pods, as Istio's does: it stands in for that, which no registry holds."""

import sys
import threading

from prometheus_client import Counter

from text_server import serve

LABELS = {
    "reporter": "source",
    "destination_service_name": "llama-predictor",
    "destination_service_namespace": "default",
    "response_code": "503",
}

Counter("istio_requests", "Requests.", LABELS).labels(**LABELS).inc()
serve(int(sys.argv[1]))
threading.Event().wait()
