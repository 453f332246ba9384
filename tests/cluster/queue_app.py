"""A target with metrics like those of Knative's queue-proxy, which no registry holds. What it counts goes up by itself."""

import sys
import threading

from prometheus_client import Gauge, Histogram

from text_server import serve

Gauge("queue_depth", "Requests in the queue.").set(2)
invocations = Histogram("kn_serving_invocation_duration_seconds", "Durations of invocations.", ["http_response_status_code"])

serve(int(sys.argv[1]))
while True:
    threading.Event().wait(0.1)
    invocations.labels("200").observe(0.3)
    invocations.labels("500").observe(0.1)
