"""An application of the official Python client, with every type of metric it has, and exemplars."""

import sys
import threading

from prometheus_client import Counter, Enum, Gauge, Histogram, Info, Summary, start_http_server

requests = Counter("requests", "Requests by path.", ["path"])
requests.labels("/v1/models/{name}:predict").inc(3, {"trace_id": "4bf92f3577b34da6"})
Gauge("queue_depth", "Requests that wait.").set(2)
latency = Histogram("latency", "Duration of requests.", ["path"], unit="seconds", buckets=(0.1, 1.0))
latency.labels('a "quoted" \\ path\nin two lines').observe(0.05, {"trace_id": "00f067aa0ba902b7"})
latency.labels("/").observe(5)
Summary("size", "Bytes of requests.", unit="bytes").observe(512)
Info("model", "The model that is served.").info({"name": "echo", "version": "1"})
Enum("state", "What the model does.", states=["loading", "ready"]).state("ready")

start_http_server(int(sys.argv[1]), addr="127.0.0.1")
threading.Event().wait()
