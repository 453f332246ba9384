"""A model server with metrics like vLLM's and KServe's, told how many requests wait. What it counts goes up by itself.

It speaks text only: in OpenMetrics the client has underscores where vLLM's names have colons.
"""

import sys
import threading
import time

from prometheus_client import Counter, Gauge, Histogram

from text_server import serve

Gauge("vllm:num_requests_waiting", "Requests that wait.", ["engine"]).labels("0").set(float(sys.argv[2]))
Gauge("vllm:num_requests_running", "Requests that run.", ["engine"]).labels("0").set(1)
answered = Counter("vllm:request_success", "Requests that were answered.", ["finished_reason"])
prompts = Counter("vllm:prompt_tokens", "Tokens of prompts.")
generated = Counter("vllm:generation_tokens", "Tokens of answers.")
requests = Counter("requests", "Requests that came.")
busy = Counter("gpu_busy_seconds", "Seconds in which the GPU had work.")
predictions = Histogram("request_predict_seconds", "Durations of predictions.", ["model_name"])

# Of the node's one GPU, which the exporter sees in each of its pods.
Gauge("DCGM_FI_DEV_GPU_UTIL", "As NVIDIA's exporter has it, in percent.", ["gpu", "UUID"]).labels("0", "GPU-1").set(50)

# What no exposition has, and a type that the queue-proxy's does not have.
serve(int(sys.argv[1]), b"not a line\n# TYPE queue_depth counter\nqueue_depth 1\n")
began = time.monotonic()
while True:
    threading.Event().wait(0.1)
    seconds = time.monotonic() - began
    began += seconds
    # Forty in a second, half of which end for one reason each, and half of the time.
    for reason in ("stop", "length"):
        answered.labels(reason).inc(20 * seconds)
    requests.inc(40 * seconds)
    prompts.inc(400 * seconds)
    generated.inc(4000 * seconds)
    busy.inc(seconds / 2)
    predictions.labels("llama").observe(0.2)
