"""Discovery: the real Prometheus finds the real sidecars of pods by the kit, under a ServiceAccount that may see pods and nothing else."""

import base64
import gzip
import http.server
import json
import pathlib
import re
import tempfile
import threading
import unittest
import urllib.parse
import urllib.request

from cluster import API, MACHINE, ROOT, SIDECAR, Cluster, await_that
from parts import files, program

KIT = ROOT / "deploy" / "prometheus"
SCRAPE = KIT / "scrape.yaml"
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
}


def pod(name, annotations, labels, containers):
    """The sidecar stands where the policy puts it."""
    spec = {
        "containers": [
            {"name": each, "image": "x:1", "ports": [{"containerPort": 8000 + number}, {"containerPort": 8100 + number}]}
            for number, each in enumerate(containers)
            if each != "qpext"
        ]
    }
    if "qpext" in containers:
        ports = [{"name": "qpext", "containerPort": 9088}]
        spec["initContainers"] = [{"name": "qpext", "image": "qpext:1", "restartPolicy": "Always", "ports": ports}]
    return {"metadata": {"name": name, "annotations": annotations, "labels": labels}, "spec": spec}


class Application(http.server.BaseHTTPRequestHandler):
    """An application's metrics."""

    def do_GET(self):
        body = b"# TYPE jobs_total counter\njobs_total 3\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Discovery(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.enterClassContext(cls.cluster)
        cls.cluster.namespace("ml")
        cls.cluster.namespace("monitoring")
        application = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
        application.daemon_threads = True
        threading.Thread(target=application.serve_forever, daemon=True).start()
        cls.addClassCleanup(application.server_close)
        cls.addClassCleanup(application.shutdown)
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
        cls.environment = cls.cluster.account("monitoring", "prometheus", rules)
        for name, about in (FOUND | OTHERS).items():
            cls.cluster.api("POST", "/api/v1/namespaces/ml/pods", pod(name, *about[:3]))
        cls.addresses = await_that("addresses for all pods", cls.running)
        for name in FOUND:
            environment = {
                "AGGREGATE_PROMETHEUS_METRICS_PORT": "9088",
                "QPEXT_BIND_ADDRESS": cls.addresses[name],
                "QPEXT_QUEUE_PROXY_METRICS_PORT": "",
                "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT": str(application.server_port),
            }
            cls.cluster.run(f"sidecar-{name}", SIDECAR, environment=environment)

    @classmethod
    def running(cls):
        pods = {each["metadata"]["name"]: each["status"].get("podIP") for each in cls.cluster.pods("ml")}
        return pods if len(pods) == len(FOUND | OTHERS) and all(pods.values()) else None

    def prometheus(self, configuration):
        """A Prometheus that is configured so, but for how often it scrapes, in a pod that may see pods."""
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        text = configuration.replace("scrape_interval: 30s", "scrape_interval: 1s").replace("scrape_timeout: 10s", "scrape_timeout: 1s")
        (folder / "prometheus.yml").write_text(text)
        process = self.cluster.run(
            "prometheus",
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={MACHINE}:9090",
            environment=self.environment,
        )
        self.addCleanup(self.cluster.end, process)

    @staticmethod
    def query(path, **parameters):
        url = f"http://{MACHINE}:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def test_the_kits_configuration_finds_these_pods_and_no_others(self):
        self.prometheus(SCRAPE.read_text())
        self.assert_found()

    def test_what_the_operator_makes_of_the_pod_monitor_finds_the_same(self):
        for crd in sorted(files("prometheus-operator").iterdir()):
            self.cluster.kubectl("apply", "--server-side", "-f", crd)
        folder = self.cluster.folder
        self.cluster.run(
            "prometheus-operator",
            program("prometheus-operator"),
            f"--apiserver={API}",
            f"--ca-file={folder / 'ca.crt'}",
            f"--cert-file={folder / 'admin.crt'}",
            f"--key-file={folder / 'admin.key'}",
            "--web.listen-address=127.0.0.1:38080",
        )
        self.cluster.kubectl("apply", "-n", "monitoring", "-k", KIT)
        everything = {name: {} for name in ("podMonitorSelector", "podMonitorNamespaceSelector", "ruleSelector", "ruleNamespaceSelector")}
        group = "/apis/monitoring.coreos.com/v1/namespaces/monitoring"
        self.cluster.api("POST", f"{group}/prometheuses", {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "it"},
            "spec": {"replicas": 0, **everything},
        })

        def configuration():
            secret = self.cluster.api("GET", "/api/v1/namespaces/monitoring/secrets/prometheus-it")
            text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"])).decode()
            return text if "podMonitor/monitoring/qpext" in text else None

        text = await_that("a configuration with the monitor", configuration)
        text = text.replace("$(SHARD)", "0").replace("$(POD_NAME)", "it-0")
        # They are mounted there in a pod.
        text = re.sub(r"rule_files:\n(- .*\n)+", "", text)
        self.prometheus(text)
        self.assert_found()
        rules = self.cluster.api("GET", f"{group}/prometheusrules/qpext")
        self.assertTrue(rules["spec"]["groups"])

    def assert_found(self):
        """Exactly the pods that are to be found are scraped well, and have the labels that rules and dashboards use."""

        def found():
            targets = self.query("targets", state="active")["activeTargets"]
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
        jobs = self.query("query", query="jobs_total")["result"]
        self.assertEqual({each["metric"]["pod"]: each["value"][1] for each in jobs}, dict.fromkeys(FOUND, "3"))


if __name__ == "__main__":
    unittest.main()
