"""A model server with metrics like vLLM's, told how many requests wait. What it counts goes up by itself.

It speaks text only: in OpenMetrics the client has underscores where vLLM's names have colons.
"""

import http.server
import sys
import threading
import time

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

Gauge("vllm:num_requests_waiting", "Requests that wait.", ["engine"]).labels("0").set(float(sys.argv[2]))
answered = Counter("vllm:request_success", "Requests that were answered.", ["finished_reason"])
requests = Counter("requests", "Requests that came.")
busy = Counter("gpu_busy_seconds", "Seconds in which the GPU had work.")
Histogram("latency_seconds", "Durations.").observe(1)



class Target(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = generate_latest()
        self.send_response(200)
        self.send_header("content-type", CONTENT_TYPE_LATEST)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Target)
threading.Thread(target=server.serve_forever, daemon=True).start()
began = time.monotonic()
while True:
    threading.Event().wait(0.1)
    seconds = time.monotonic() - began
    began += seconds
    # Forty in a second, half of which end for one reason each, and half of the time.
    for reason in ("stop", "length"):
        answered.labels(reason).inc(20 * seconds)
    requests.inc(40 * seconds)
    busy.inc(seconds / 2)
