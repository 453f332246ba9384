"""Autoscaling by prometheus-adapter: the real controller moves a model's pods by a metric that comes through their sidecars."""

import unittest

import prometheus
from cluster import ROOT, Cluster, application, await_that
from parts import program

IMAGE = "registry.k8s.io/prometheus-adapter/prometheus-adapter:v0.12.0"

#: A model as KServe deploys one without Knative, annotated so that it gets the sidecar.
LABELS = {"app": "isvc.llama-predictor", "serving.kserve.io/inferenceservice": "llama"}
MODEL = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "llama-predictor"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "isvc.llama-predictor"}},
        "template": {
            "metadata": {"labels": LABELS, "annotations": {"qpext.io/inject": "true", "prometheus.io/port": "8000"}},
            "spec": {"containers": [{"name": "kserve-container", "image": "app:1"}]},
        },
    },
}


class Adapter(unittest.TestCase):
    def test_the_kits_autoscaler_follows_what_waits(self):
        cluster = self.enterContext(Cluster())
        cluster.namespace("monitoring")
        environment = prometheus.account(cluster)
        metrics = cluster.folder / "metrics"

        def waiting(requests):
            metrics.write_text(f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting {requests}\n")

        waiting(0)
        cluster.node.images |= {
            "app:1": application(metrics),
            IMAGE: lambda _: [program("prometheus-adapter")],
        }
        prometheus.start(self, cluster, environment, (prometheus.KIT / "scrape.yaml").read_text())
        cluster.inject()
        cluster.api("POST", "/apis/apps/v1/namespaces/default/deployments", MODEL)
        await_that(
            "a metric of the model",
            lambda: prometheus.api("query", query='{__name__="vllm:num_requests_waiting",service_name="llama"}')["result"],
        )
        cluster.kubectl("apply", "-k", ROOT / "deploy" / "autoscaling" / "prometheus-adapter")

        def metric():
            path = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/default/pods/*/vllm_num_requests_waiting"
            return cluster.api("GET", path)["items"]

        [item] = await_that("a custom metric of the pod", metric, patience=240)
        self.assertEqual(item["value"], "0")

        def replicas(are_right):
            def look():
                deployment = cluster.api("GET", "/apis/apps/v1/namespaces/default/deployments/llama-predictor")
                return are_right(deployment["status"].get("readyReplicas", 0))

            return look

        for requests, what, are_right in (
            (0, "one pod", lambda count: count == 1),
            (20, "more pods", lambda count: count > 2),
            (0, "one pod again", lambda count: count == 1),
        ):
            waiting(requests)
            await_that(what, replicas(are_right), patience=240)


if __name__ == "__main__":
    unittest.main()
