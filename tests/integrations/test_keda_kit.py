"""The kit for KEDA, as far as it can be judged without a cluster."""

import http.server
import json
import subprocess
import sys
import tempfile
import threading
import unittest

import yaml

from pod import ROOT

KIT = ROOT / "deploy" / "autoscaling" / "keda"


class Drain(unittest.TestCase):
    def test_a_pod_ends_once_nothing_runs_in_it(self):
        running = 1
        asked = threading.Semaphore(0)

        class Model(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = f'vllm:num_requests_running{{engine="0",model_name="a model"}} {running}.0\nvllm:num_requests_waiting 0.0\n'.encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                asked.release()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        patch = yaml.safe_load((KIT / "drain.yaml").read_text())
        python, option, script = patch["spec"]["predictor"]["model"]["lifecycle"]["preStop"]["exec"]["command"]
        self.assertEqual((python, option), ("python3", "-c"))
        for slow, fast in (("sleep(15)", "sleep(0)"), ("sleep(1)", "sleep(0.1)"), ("localhost:8080", f"127.0.0.1:{server.server_port}")):
            self.assertIn(slow, script)
            script = script.replace(slow, fast)
        hook = subprocess.Popen([sys.executable, option, script])
        self.addCleanup(hook.kill)
        for _ in range(3):
            self.assertTrue(asked.acquire(timeout=60))
        self.assertIsNone(hook.poll())
        running = 0
        self.assertEqual(hook.wait(timeout=60), 0)


class Queries(unittest.TestCase):
    """By promtool, which has series that come, go and start again at given times."""

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
