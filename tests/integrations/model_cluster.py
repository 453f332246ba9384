"""A cluster of models behind real sidecars, scraped by a real Prometheus as the kits have it."""

import urllib.parse

from cluster import Cluster
from pod import await_that, free_port
from prometheus_kit import prometheus_of_cluster

#: The requests that wait in each pod.
WAITING = {"llama-1": 3, "llama-2": 12, "llama-3": 7}
SERVICE = "llama"
REVISION = "isvc.llama-predictor"

#: Over how long rates are taken in the tests, instead of the two minutes and more that the kits have.
WINDOW_SECONDS = 10


def start(programs, web=None):
    """A Prometheus that has scraped each pod for a while, whose API is secured as `web` says. One target of each pod is down."""
    cluster = programs.enter_context(Cluster("default"))
    queue_proxy = programs.python("queue_app.py")
    port = str(free_port())
    for number, (name, waiting) in enumerate(WAITING.items()):
        address = f"127.0.0.{21 + number}"
        programs.sidecar(
            programs.python("vllm_app.py", waiting),
            queue_proxy=queue_proxy,
            AGGREGATE_PROMETHEUS_METRICS_PORT=port,
            QPEXT_BIND_ADDRESS=address,
            QPEXT_SELF_METRICS="true",
            QPEXT_TARGETS=f"agent={free_port()}",
            SERVING_SERVICE=SERVICE,
            SERVING_REVISION=REVISION,
        )
        annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": port}
        labels = {"serving.knative.dev/service": SERVICE, "serving.knative.dev/revision": REVISION}
        cluster.add(name, address, annotations, labels)
    gateway = urllib.parse.urlsplit(programs.python("gateway_app.py")).netloc
    jobs = [{"job_name": "gateways", "static_configs": [{"targets": [gateway]}]}]
    prometheus = prometheus_of_cluster(programs, cluster, web, jobs)

    def has_scraped():
        result = prometheus.api("query", query=f"min(count_over_time(requests_total[{WINDOW_SECONDS}s]))")["result"]
        return result and float(result[0]["value"][1]) >= WINDOW_SECONDS - 2

    await_that("scrapes of all", has_scraped)
    return prometheus
