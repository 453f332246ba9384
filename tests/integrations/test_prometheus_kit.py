"""The kit for Prometheus: its rules by promtool, and its scrape configuration by real servers that scrape real sidecars.

Debian's Prometheus is built without the discovery of Kubernetes. So VictoriaMetrics, which reads the same configuration, runs it
as it is shipped, against the API; and Prometheus runs all of it but the discovery, with what that would have found.
"""

import re
import subprocess
import unittest

import yaml

from cluster import Cluster
from pod import ROOT, Programs, await_that, free_port, port_of
from prometheus_kit import KIT, prometheus_of_cluster, shipped, shipped_configuration

#: The pods that ask to be scraped, by their addresses.
ANNOTATED = {f"iris-{number}": f"127.0.0.{10 + number}" for number in range(1, 7)}

#: What the kits of this project annotate, and what KServe does.
SCRAPED = {"prometheus.io/scrape": "true"}
AGGREGATED = "serving.kserve.io/enable-metric-aggregation"
OF_KSERVE = {"serving.kserve.io/enable-prometheus-scraping": "true", AGGREGATED: "true"}


class Rules(unittest.TestCase):
    def test_promtool_tests_every_alert(self):
        done = subprocess.run(["promtool", "test", "rules", KIT / "rules_test.yaml"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        alerts = {rule["alert"] for group in shipped("rules.yaml")["groups"] for rule in group["rules"] if "alert" in rule}
        tests = shipped("rules_test.yaml")["tests"]
        fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
        self.assertEqual(fired, alerts)

    def test_the_operator_has_the_same_rules(self):
        self.assertEqual(shipped("prometheusrule.yaml")["spec"]["groups"], shipped("rules.yaml")["groups"])

    def test_the_operator_finds_the_same_pods(self):
        """Its fields are spelt in another way; what it does by itself is left out there, and what only it needs is added."""
        renamed = {"source_labels": "sourceLabels", "target_label": "targetLabel"}
        files = shipped("scrape.yaml")["scrape_configs"][0]["relabel_configs"]
        files = [{renamed.get(key, key): value for key, value in rule.items()} for rule in files]
        files = [rule for rule in files if rule.get("targetLabel") not in ("namespace", "pod")]
        operator = shipped("podmonitor.yaml")["spec"]["podMetricsEndpoints"][0]["relabelings"]
        own = [{"targetLabel": "job", "replacement": "qpext"}, {"regex": "container|endpoint", "action": "labeldrop"}]
        self.assertEqual([rule for rule in operator if rule not in own], files)
        self.assertEqual([rule for rule in operator if rule in own], own)


class Discovery(unittest.TestCase):
    maxDiff = None

    def victoria_metrics(self, programs, cluster):
        config = shipped_configuration()
        for job in config["scrape_configs"]:
            for discovery in job["kubernetes_sd_configs"]:
                discovery["api_server"] = cluster.url
        return programs.victoria_metrics(config)

    @staticmethod
    def found(prometheus):
        """The labels of the targets that are scraped well."""
        targets = prometheus.api("targets", state="active")["activeTargets"]
        return {target["labels"]["pod"]: target["labels"] for target in targets if target["health"] == "up"}

    def test_exactly_the_annotated_pods_are_scraped_and_named(self):
        port = free_port()
        with Programs() as programs, Cluster() as cluster:
            app, queue_proxy = (programs.python("text_target.py") for _ in range(2))

            def add(name, annotations=SCRAPED, **options):
                address = ANNOTATED[name]
                programs.sidecar(
                    app,
                    queue_proxy=queue_proxy,
                    AGGREGATE_PROMETHEUS_METRICS_PORT=str(port),
                    QPEXT_BIND_ADDRESS=address,
                    QPEXT_SELF_METRICS="true",
                    SERVING_SERVICE="iris",
                    SERVING_REVISION=f"{name}-revision",
                )
                annotations = {**annotations, "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}
                labels = {"serving.knative.dev/service": "iris", "serving.knative.dev/revision": f"{name}-revision"}
                cluster.add(name, address, annotations, labels, **options)

            for name in ("iris-1", "iris-2"):
                add(name)
            # As KServe annotates its pods, of which none says that it is to be scraped.
            for name in ("iris-3", "iris-4"):
                add(name, OF_KSERVE, containers=("kserve-container", "queue-proxy"))
            # Whose path is not annotated.
            add("iris-5", containers=("app", "qpext"))
            del cluster.pods["iris-5"]["metadata"]["annotations"]["prometheus.io/path"]
            scraped = {**SCRAPED, "prometheus.io/port": str(port)}
            of_kserve = {**OF_KSERVE, "prometheus.io/port": str(port)}
            plain = ("app", "queue-proxy")
            cluster.add("without", "127.0.0.1")
            cluster.add("off", "127.0.0.11", {**scraped, "prometheus.io/scrape": "false"})
            cluster.add("portless", "127.0.0.12", {"prometheus.io/scrape": "true"})
            cluster.add("misspelt", "127.0.0.12", {**scraped, "prometheus.io/port": "http"})
            cluster.add("foreign", "127.0.0.13", scraped, containers=("coredns",))
            cluster.add("plain", "127.0.0.14", scraped, containers=plain)
            cluster.add("apart", "127.0.0.14", {**of_kserve, AGGREGATED: "false"}, containers=plain)
            cluster.add("unwanted", "127.0.0.14", {**of_kserve, "prometheus.io/scrape": "false"}, containers=plain)
            cluster.add("over", "127.0.0.13", scraped, phase="Succeeded")
            cluster.add("pending", None, scraped, phase="Pending")

            expected = {
                name: {
                    "job": "qpext",
                    "instance": f"{address}:{port}",
                    "namespace": "ml",
                    "pod": name,
                    "service": "iris",
                    "revision": f"{name}-revision",
                }
                for name, address in list(ANNOTATED.items())[:5]
            }
            servers = [server(programs, cluster) for server in (prometheus_of_cluster, self.victoria_metrics)]
            for server in servers:
                await_that("a scrape of all", lambda: len(self.found(server)) == len(expected))
                self.assertEqual(self.found(server), expected)
                targets = server.api("targets", state="active")["activeTargets"]
                self.assertEqual(len(targets), len(expected), "nobody else is even tried, and no pod twice")
                self.assert_values(server, expected)
            recorded = "namespace_service_revision_target:qpext_target_up:min"
            await_that("a recorded rule", lambda: len(servers[0].api("query", query=recorded)["result"]) == 2 * len(expected))

            cluster.delete("iris-2")
            add("iris-6")
            names = [f"iris-{number}" for number in (1, 3, 4, 5, 6)]
            for server in servers:
                await_that("the end of a pod, and a new one", lambda: sorted(self.found(server)) == names)

    def test_a_job_for_all_annotated_pods_leaves_these_out_as_the_readme_has_it(self):
        left_out = re.search(r"```yaml\n(.*?)```", (KIT / "README.md").read_text(), re.DOTALL)
        port = "__meta_kubernetes_pod_annotation_prometheus_io_port"
        rules = [
            {"source_labels": ["__meta_kubernetes_pod_annotation_prometheus_io_scrape"], "regex": "true", "action": "keep"},
            *yaml.safe_load(left_out[1]),
            {"source_labels": ["__meta_kubernetes_pod_ip", port], "regex": "(.+);(.+)", "replacement": "$1:$2", "target_label": "__address__"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ]
        with Programs() as programs, Cluster() as cluster:
            other = port_of(programs.python("text_target.py"))
            cluster.add("other", "127.0.0.1", {**SCRAPED, "prometheus.io/port": str(other)}, containers=("app",))
            cluster.add("iris", "127.0.0.1", {**SCRAPED, "prometheus.io/port": "9088"})
            cluster.add("of-kserve", "127.0.0.1", {**SCRAPED, **OF_KSERVE, "prometheus.io/port": "9088"}, containers=("app", "queue-proxy"))
            pods = {"role": "pod", "api_server": cluster.url}
            job = {"job_name": "annotated", "scrape_interval": "1s", "kubernetes_sd_configs": [pods], "relabel_configs": rules}
            server = programs.victoria_metrics({"scrape_configs": [job]})
            await_that("a scrape of the other pod", lambda: list(self.found(server)) == ["other"])
            self.assertEqual(len(server.api("targets", state="active")["activeTargets"]), 1)

    def assert_values(self, server, pods):
        """Both halves of each pod have the values that they were given, and say whose they are."""

        def values(query):
            result = server.api("query", query=query)["result"]
            return {element["metric"]["pod"]: element["value"][1] for element in result}

        self.assertEqual(values('kn_requests_total{service_name=""}'), dict.fromkeys(pods, "7"), "the queue-proxy's half")
        self.assertEqual(values('kn_requests_total{service_name="iris"}'), dict.fromkeys(pods, "7"), "the app's half")
        self.assertEqual(values("sum by (pod) (qpext_target_up)"), dict.fromkeys(pods, "2"))


if __name__ == "__main__":
    unittest.main()
