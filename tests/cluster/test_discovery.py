"""Discovery: the real Prometheus finds the real sidecars of pods by the kit, under a ServiceAccount that may see pods and nothing else."""

import base64
import contextlib
import gzip
import pathlib
import re
import tempfile
import textwrap
import unittest

import prometheus
from cluster import ACCOUNT_FOLDER, API, Cluster, application, await_that
from parts import files, program
from prometheus import KIT

MONITORING = "/apis/monitoring.coreos.com/v1/namespaces/monitoring"

SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": "9088", "prometheus.io/path": "/metrics"}
AGGREGATED = {
    "serving.kserve.io/enable-metric-aggregation": "true",
    "serving.kserve.io/enable-prometheus-scraping": "true",
    "prometheus.io/port": "9088",
    "prometheus.io/path": "/metrics",
}
KNATIVE = {
    "serving.knative.dev/service": "iris-predictor",
    "serving.knative.dev/revision": "iris-predictor-00001",
    "serving.kserve.io/inferenceservice": "iris",
    "app": "iris-predictor-00001",
}
STANDARD = {"serving.kserve.io/inferenceservice": "iris", "app": "isvc.iris-predictor"}
LLM = {"app.kubernetes.io/part-of": "llminferenceservice", "app.kubernetes.io/name": "llama", "llm-d.ai/role": "decode"}

#: The pods that are found: their annotations, labels, containers, and the service and the revision that they get.
FOUND = {
    "serverless": (SCRAPED, KNATIVE, ("app", "queue-proxy", "qpext"), ("iris-predictor", "iris-predictor-00001")),
    "drop-in": (AGGREGATED, KNATIVE, ("app", "queue-proxy"), ("iris-predictor", "iris-predictor-00001")),
    "standard": (SCRAPED, STANDARD, ("app", "qpext"), ("iris", "isvc.iris-predictor")),
    "llm": (SCRAPED, LLM, ("main", "qpext"), ("llama", "llama-decode")),
    "plain": (SCRAPED, {}, ("app", "qpext"), (None, None)),
}
OTHERS = {
    "not-asked": ({}, KNATIVE, ("app", "qpext")),
    "off": ({**SCRAPED, "prometheus.io/scrape": "false"}, KNATIVE, ("app", "qpext")),
    "without-a-port": ({"prometheus.io/scrape": "true"}, STANDARD, ("app", "qpext")),
    "without-a-sidecar": (SCRAPED, STANDARD, ("app",)),
    "with-a-queue-proxy-alone": (SCRAPED, KNATIVE, ("app", "queue-proxy")),
    "aggregated-without-a-queue-proxy": (AGGREGATED, STANDARD, ("app",)),
    "of-others": ({"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}, {}, ("app",)),
}

#: A job as many clusters have one, with what the kit's README adds to it.
ANNOTATED = """\
scrape_configs:
  - job_name: annotated
    scrape_interval: 30s
    scrape_timeout: 10s
    kubernetes_sd_configs: [{role: pod}]
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep}
      LEFT OUT
      - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_port], regex: '\\d+', action: keep}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
"""

SIDECAR = {
    "image": "qpext:0.1.0",
    "ports": [{"name": "qpext", "containerPort": 9088}],
    "env": [
        {"name": "AGGREGATE_PROMETHEUS_METRICS_PORT", "value": "9088"},
        {"name": "QPEXT_QUEUE_PROXY_METRICS_PORT", "value": ""},
        {"name": "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT", "value": "8000"},
    ],
}


def pod(name, annotations, labels, containers):
    """The sidecar stands where the policy puts it, or is in the queue-proxy's container."""
    spec = {
        "containers": [
            {"name": each, "image": "app:1", "ports": [{"containerPort": 8000 + number}, {"containerPort": 8100 + number}]}
            for number, each in enumerate(containers)
            if each not in ("qpext", "queue-proxy")
        ]
    }
    if "queue-proxy" in containers:
        own = SIDECAR if name == "drop-in" else {"image": "queue:1"}
        spec["containers"].append({"name": "queue-proxy", **own})
    if "qpext" in containers:
        spec["initContainers"] = [{"name": "qpext", "restartPolicy": "Always", **SIDECAR}]
    return {"metadata": {"name": name, "annotations": annotations, "labels": {**labels, "name": name}}, "spec": spec}


class Discovery(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.enterClassContext(cls.cluster)
        cls.cluster.namespace("ml")
        cls.cluster.namespace("monitoring")
        cls.environment = prometheus.account(cls.cluster)
        metrics = cls.cluster.folder / "metrics"
        metrics.write_text("# TYPE jobs_total counter\njobs_total 3\n")
        cls.cluster.node.images["app:1"] = application(metrics)
        for name, about in (FOUND | OTHERS).items():
            cls.cluster.api("POST", "/api/v1/namespaces/ml/pods", pod(name, *about[:3]))
        cls.addresses = await_that("addresses for all pods", cls.running)

    @classmethod
    def running(cls):
        pods = {each["metadata"]["name"]: each["status"].get("podIP") for each in cls.cluster.pods("ml")}
        return pods if len(pods) == len(FOUND | OTHERS) and all(pods.values()) else None

    def test_the_kits_configuration_finds_these_pods_and_no_others(self):
        prometheus.start(self, self.cluster, self.environment, (KIT / "scrape.yaml").read_text())
        self.assert_found()

    def start_victoria_metrics(self, configuration):
        """It reads the same configuration, and finds pods by code of its own."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / "scrape.yml").write_text(prometheus.faster(configuration))
        process = self.cluster.run(
            "victoria-metrics",
            "victoria-metrics",
            f"-promscrape.config={folder / 'scrape.yml'}",
            f"-storageDataPath={folder / 'data'}",
            # What was scraped is found at once.
            "-search.latencyOffset=0s",
            f"-httpListenAddr={prometheus.ADDRESS}",
            environment=self.environment,
        )
        self.addCleanup(self.cluster.end, process)

    def test_victoria_metrics_finds_the_same_by_the_kits_configuration(self):
        self.start_victoria_metrics((KIT / "scrape.yaml").read_text())
        self.assert_found()

    def test_a_job_for_all_annotated_pods_leaves_these_out_as_the_readme_has_it(self):
        left_out = textwrap.indent(re.search(r"```yaml\n(.*?)```", (KIT / "README.md").read_text(), re.DOTALL)[1], "      ")
        self.start_victoria_metrics(ANNOTATED.replace("      LEFT OUT\n", left_out))

        def found():
            return {target["labels"]["pod"] for target in prometheus.api("targets", state="active")["activeTargets"]}

        await_that("the pods that others are to scrape", lambda: found() == {"of-others"})

    def operated(self, monitor):
        """What the real operator makes of the kit, for a Prometheus that takes all monitors: the configuration with this one."""
        folder = self.cluster.folder
        operator = self.cluster.run(
            "prometheus-operator",
            program("prometheus-operator"),
            f"--apiserver={API}",
            f"--ca-file={folder / 'ca.crt'}",
            f"--cert-file={folder / 'admin.crt'}",
            f"--key-file={folder / 'admin.key'}",
            "--web.listen-address=127.0.0.1:38080",
        )
        self.addCleanup(self.cluster.end, operator)
        kinds = ("podMonitor", "serviceMonitor", "rule")
        everything = {name: {} for kind in kinds for name in (f"{kind}Selector", f"{kind}NamespaceSelector")}
        name = monitor.lower().partition("/")[0]
        self.cluster.api("POST", f"{MONITORING}/prometheuses", {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": name},
            "spec": {"replicas": 0, **everything},
        })

        def configuration():
            secret = self.cluster.api("GET", f"/api/v1/namespaces/monitoring/secrets/prometheus-{name}")
            text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"])).decode()
            return text if monitor in text else None

        text = await_that("a configuration with the monitor", configuration)
        text = text.replace("$(SHARD)", "0").replace("$(POD_NAME)", f"{name}-0")
        # They are mounted there in a pod.
        return re.sub(r"rule_files:\n(- .*\n)+", "", text)

    def test_what_the_operator_makes_of_the_pod_monitor_finds_the_same(self):
        self.enterContext(self.applied("-k", KIT))
        text = self.operated("podMonitor/monitoring/qpext")
        prometheus.start(self, self.cluster, self.environment, text)
        self.assert_found()
        rules = self.cluster.api("GET", f"{MONITORING}/prometheusrules/qpext")
        self.assertTrue(rules["spec"]["groups"])

    def test_what_the_operator_makes_of_the_service_monitor_finds_the_same(self):
        # Two Services for each pod, with a port that is not the sidecar's: that is one target.
        for name in FOUND | OTHERS:
            for number in (1, 2):
                service = {"spec": {"selector": {"name": name}, "ports": [{"port": 80, "targetPort": 8000}]}}
                self.cluster.api("POST", "/api/v1/namespaces/ml/services", {"metadata": {"name": f"{name}-{number}"}, **service})
        self.enterContext(self.applied("-f", KIT / "servicemonitor.yaml"))
        text = self.operated("serviceMonitor/monitoring/qpext")
        rules = [
            {"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
        ]
        environment = self.cluster.account("monitoring", "prometheus-of-services", rules)
        self.addCleanup(self.cluster.write_account, ACCOUNT_FOLDER, "monitoring", "prometheus")
        prometheus.start(self, self.cluster, environment, text)
        self.assert_found()

    @contextlib.contextmanager
    def applied(self, *what):
        """Monitors, for as long as the block."""
        for crd in sorted(files("prometheus-operator").iterdir()):
            self.cluster.kubectl("apply", "--server-side", "-f", crd)
        self.cluster.kubectl("apply", "-n", "monitoring", *what)
        try:
            yield
        finally:
            self.cluster.kubectl("delete", "-n", "monitoring", *what)

    def assert_found(self):
        """Exactly the pods that are to be found are scraped well, and have the labels that rules and dashboards use."""

        def found():
            targets = prometheus.api("targets", state="active")["activeTargets"]
            healthy = [target["labels"] for target in targets if target["health"] == "up"]
            return targets if len(healthy) >= len(FOUND) else None

        targets = await_that("a scrape of each pod", found)
        expected = []
        for name, (_, _, _, (service, revision)) in FOUND.items():
            labels = {"job": "qpext", "namespace": "ml", "pod": name, "instance": f"{self.addresses[name]}:9088"}
            own = {"service": service, "revision": revision}
            expected.append({**labels, **{key: value for key, value in own.items() if value}})

        def by_name(labels):
            return labels["pod"]

        self.assertEqual(sorted((target["labels"] for target in targets), key=by_name), sorted(expected, key=by_name))

        def jobs():
            return {each["metric"]["pod"]: each["value"][1] for each in prometheus.api("query", query="jobs_total")["result"]}

        await_that("what each counts", lambda: jobs() == dict.fromkeys(FOUND, "3"))


if __name__ == "__main__":
    unittest.main()
