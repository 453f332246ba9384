"""The kits for autoscaling: prometheus-adapter's rules and KEDA's queries, asked of a real Prometheus as those two would.

No registry holds either program. What they do is done here as their documentation has it.
"""

import datetime
import json
import math
import re
import subprocess
import tempfile
import time
import unittest
import urllib.parse

import yaml

from model_cluster import REVISION, WAITING, WINDOW_SECONDS, start
from pod import ROOT, Programs, get

KITS = ROOT / "deploy" / "autoscaling"


def soon(query):
    """The query, for which nobody has to wait two minutes."""
    return query.replace("[2m]", f"[{WINDOW_SECONDS}s]")


class Autoscaling(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.prometheus = start(cls.enterClassContext(Programs()))

    def metrics(self):
        """The custom metrics that the adapter finds: the query of each by its name.

        By its documentation: series are looked for by `seriesQuery`, `seriesFilters` are tried with their names, `name` makes the
        metric's, and those count that have the labels of a namespace and a pod.
        """
        found = {}
        rules = yaml.safe_load((KITS / "prometheus-adapter" / "config.yaml").read_text())["rules"]
        for rule in rules:
            labels = {resource["resource"]: label for label, resource in rule["resources"]["overrides"].items()}
            series = self.prometheus.api("series", **{"match[]": rule["seriesQuery"], "start": time.time() - 120})
            for labelled in series:
                name = labelled["__name__"]
                filters = rule.get("seriesFilters", [])
                if any("is" in entry and not re.search(entry["is"], name) for entry in filters):
                    continue
                if any("isNot" in entry and re.search(entry["isNot"], name) for entry in filters):
                    continue
                self.assertLessEqual(set(labels.values()), set(labelled))
                metric = name
                if "name" in rule:
                    pattern, template = rule["name"]["matches"], rule["name"].get("as", "$1")
                    match = re.search(pattern, name)
                    self.assertIsNotNone(match, f"{name} {pattern}")
                    metric = re.sub(r"\$\{?(\d+)\}?", lambda group: match[int(group[1])], template)
                self.assertEqual(found.setdefault(metric, (name, rule)), (name, rule), f"{metric} is two things")
        return found

    def of_pods(self, metric, pods):
        """What the adapter gives of a metric for these pods."""
        series, rule = self.metrics()[metric]
        matchers = f'namespace="default",pod=~"{"|".join(pods)}"'
        query = rule["metricsQuery"]
        for name, text in (("Series", series), ("LabelMatchers", matchers), ("GroupBy", "pod")):
            query = query.replace(f"<<.{name}>>", text)
        result = self.prometheus.api("query", query=soon(query))["result"]
        return {element["metric"]["pod"]: float(element["value"][1]) for element in result}

    def test_the_applications_metrics_are_custom_metrics_and_no_others(self):
        names = set(self.metrics())
        own = {"requests_per_second", "gpu_busy_utilization", "vllm_num_requests_waiting", "vllm_num_requests_running"}
        own |= {f"vllm_{name}_per_second" for name in ("request_success", "prompt_tokens", "generation_tokens")}
        self.assertLessEqual(own, names)
        process = {name for name in names - own if name.startswith(("process_", "python_"))}
        self.assertIn("process_cpu_utilization", process)
        self.assertEqual(names - own - process, {"queue_depth", "DCGM_FI_DEV_GPU_UTIL"}, "no histogram, nothing of the queue-proxy or the sidecar")
        for name in names:
            self.assertRegex(name, r"^[a-zA-Z_]+$", "a path of the Kubernetes API has it")
            self.assertNotRegex(name, r"_total$")

    def test_each_pod_has_a_value(self):
        self.assertEqual(self.of_pods("vllm_num_requests_waiting", WAITING), WAITING)
        self.assertEqual(self.of_pods("vllm_num_requests_waiting", ["llama-2"]), {"llama-2": 12})
        for metric, expected in (("requests_per_second", 40), ("vllm_request_success_per_second", 40), ("gpu_busy_utilization", 0.5)):
            values = self.of_pods(metric, WAITING)
            self.assertEqual(set(values), set(WAITING))
            for value in values.values():
                # It is counted by a clock, on a machine that may be busy.
                self.assertAlmostEqual(value / expected, 1, delta=0.5, msg=metric)

    def test_the_autoscaler_comes_to_the_right_number(self):
        autoscaler = yaml.safe_load((KITS / "prometheus-adapter" / "hpa.yaml").read_text())["spec"]
        [metric] = autoscaler["metrics"]
        self.assertEqual(metric["type"], "Pods")
        values = self.of_pods(metric["pods"]["metric"]["name"], WAITING)
        target = metric["pods"]["target"]
        self.assertEqual(target["type"], "AverageValue")
        # As the documentation has it: the ratio of the mean to the target, times the pods that there are.
        mean = sum(values.values()) / len(values)
        self.assertEqual(math.ceil(len(values) * mean / float(target["averageValue"])), 5)

    def ask_as_keda(self, query):
        """The one value, as KEDA reads it (`ExecutePromQuery` in pkg/scalers/prometheus_scaler.go)."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        _, text = get(f"{self.prometheus.url}/api/v1/query?query={urllib.parse.quote_plus(query)}&time={now}")
        answer = yaml.safe_load(text)
        self.assertEqual(answer["status"], "success")
        self.assertEqual(len(answer["data"]["result"]), 1, query)
        return float(answer["data"]["result"][0]["value"][1])

    def test_kedas_queries_give_one_element_above_and_below_activation(self):
        scaled = yaml.safe_load((KITS / "keda" / "scaledobject.yaml").read_text())
        self.assertEqual(scaled["spec"]["minReplicaCount"], 0)
        triggers = {trigger["name"]: trigger["metadata"] for trigger in scaled["spec"]["triggers"]}
        for name, expected in (("queue-depth", 22), ("request-rate", 120)):
            trigger = triggers[name]
            self.assertEqual(trigger["query"].count(REVISION), 1)
            value = self.ask_as_keda(soon(trigger["query"]))
            self.assertAlmostEqual(value / expected, 1, delta=0.5)
            self.assertGreater(value, float(trigger["activationThreshold"]))
            # KEDA gives the autoscaler the value as one to be shared out.
            self.assertAlmostEqual(math.ceil(value / float(trigger["threshold"])), math.ceil(expected / float(trigger["threshold"])), delta=3)
            # Nothing runs of another revision: that is 0, and not nothing.
            at_zero = self.ask_as_keda(trigger["query"].replace(REVISION, "isvc.another-predictor"))
            self.assertEqual(at_zero, 0)
            self.assertLessEqual(at_zero, float(trigger["activationThreshold"]))

    def test_the_first_request_at_the_gateway_wakes_a_model_up(self):
        scaled = yaml.safe_load((KITS / "keda" / "scaledobject.yaml").read_text())
        [gateway] = (trigger["metadata"] for trigger in scaled["spec"]["triggers"] if trigger["name"] == "at-the-gateway")
        activation = float(gateway["activationThreshold"])
        query = gateway["query"]
        before = "[1d] offset 2m"
        self.assertIn(before, query)
        # An hour ago there was no series; a second ago it was as it is.
        self.assertGreater(self.ask_as_keda(query.replace(before, "[1s] offset 1h")), activation)
        self.assertLessEqual(self.ask_as_keda(query.replace(before, "[1d] offset 1s")), activation)
        self.assertLessEqual(self.ask_as_keda(query.replace("llama-predictor", "another-predictor")), activation)

    def test_only_requests_at_the_gateway_wake_a_model_up(self):
        """By promtool, which has series that come, go and start again at given times."""
        scaled = yaml.safe_load((KITS / "keda" / "scaledobject.yaml").read_text())
        [query] = (trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"] if trigger["name"] == "at-the-gateway")
        idle = "100000x100"
        cases = [
            ({}, 0),
            ({"a": idle}, 0),
            ({"a": "100000x39 stale 100000x60"}, 0),
            ({"a": "100000x39 _x40 100000x20"}, 0),
            # There is a scrape in each fifteen seconds, of which the last one and the one eight before that are compared.
            ({"a": "_x44 1x55"}, 1),
            ({"a": "100000x40 100012x59"}, 1),
            ({"a": idle, "b": "_x44 3x55"}, 1),
            ({"a": "100000x40 0x2 5x57"}, 1),
            # A Prometheus that has just started wakes one pod, and not one for each request that the gateway ever counted.
            ({"a": "_x44 500000x55"}, 1),
        ]
        labels = {"reporter": "source", "destination_service_name": "llama-predictor", "destination_service_namespace": "default"}

        def series(pod):
            return f"istio_requests_total{{{','.join(f'{name}={json.dumps(value)}' for name, value in {**labels, 'pod': pod}.items())}}}"

        tests = [
            {
                "interval": "15s",
                "input_series": [{"series": series(pod), "values": values} for pod, values in pods.items()],
                "promql_expr_test": [{"expr": query, "eval_time": "12m", "exp_samples": [{"labels": "{}", "value": requests}]}],
            }
            for pods, requests in cases
        ]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests}, file)
            file.flush()
            done = subprocess.run(["promtool", "test", "rules", file.name], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
