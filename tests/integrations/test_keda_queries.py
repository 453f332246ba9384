"""KEDA's query of what comes at the gateway, by promtool, which has series that come, go and start again at given times."""

import json
import subprocess
import tempfile
import unittest

import yaml

from pod import ROOT

KIT = ROOT / "deploy" / "autoscaling" / "keda"


class Queries(unittest.TestCase):
    def test_only_requests_at_the_gateway_wake_a_model_up(self):
        scaled = yaml.safe_load((KIT / "scaledobject.yaml").read_text())
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
