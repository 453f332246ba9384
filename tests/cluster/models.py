"""Models behind real sidecars, which the policy adds, scraped by the real Prometheus as the kits have it."""

import pathlib
import sys

import prometheus
from cluster import Cluster, await_that

HERE = pathlib.Path(__file__).parent

#: The requests that wait in each pod.
WAITING = {"llama-1": 3, "llama-2": 12, "llama-3": 7}
SERVICE = "llama"
REVISION = "isvc.llama-predictor"
#: A namespace with a model of its own.
OTHER = "batch"

#: Over how long rates are taken in the tests, instead of the two minutes and more that the kits have.
WINDOW_SECONDS = 10

GATEWAY = """\
  - job_name: gateways
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{targets: ['127.0.0.1:8765']}]
"""


def pod(name, waiting):
    """One target of each pod is down."""
    return {
        "metadata": {
            "name": name,
            "annotations": {"qpext.io/inject": "true", "prometheus.io/port": "8000", "qpext.io/targets": "agent=9999"},
            "labels": {"serving.kserve.io/inferenceservice": SERVICE, "app": REVISION},
        },
        "spec": {
            "containers": [
                {"name": "kserve-container", "image": "model:1", "args": [str(waiting)]},
                {"name": "queue-proxy", "image": "queue:1"},
            ],
        },
    }


def start(test, web=None):
    """A cluster with a Prometheus that has scraped each pod for a while, whose API is secured as `web` says."""
    cluster = Cluster()
    test.enterClassContext(cluster)
    cluster.namespace("monitoring")
    cluster.namespace(OTHER)
    environment = prometheus.account(cluster)
    cluster.node.images |= {
        "model:1": lambda _: [sys.executable, HERE / "vllm_app.py", "8000"],
        "queue:1": lambda _: [sys.executable, HERE / "queue_app.py", "9091"],
    }
    cluster.run("gateway", sys.executable, HERE / "gateway_app.py", "8765")
    cluster.inject()
    for name, waiting in WAITING.items():
        cluster.api("POST", "/api/v1/namespaces/default/pods", pod(name, waiting))
    cluster.api("POST", f"/api/v1/namespaces/{OTHER}/pods", pod("llama-1", 0))
    configuration = (prometheus.KIT / "scrape.yaml").read_text() + GATEWAY
    prometheus.start(test, cluster, environment, configuration, rules=True, web=web)

    def has_scraped():
        query = f"count_over_time(requests_total[{WINDOW_SECONDS}s])"
        counts = [float(each["value"][1]) for each in prometheus.api("query", web=web, query=query)["result"]]
        return len(counts) == len(WAITING) + 1 and min(counts) >= WINDOW_SECONDS - 2

    await_that("scrapes of all", has_scraped)
    return cluster
