"""Real applications through the sidecar into a real Prometheus: every series arrives, with its type."""

import json
import unittest
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from pod import SERVING, Programs, get, with_serving_labels


class Apps(unittest.TestCase):
    maxDiff = None

    def assert_same_through_sidecar(self, app, programs):
        """Scraped through the sidecar, the application is what it is scraped by itself: OpenMetrics."""
        jobs = {"direct": app, "sidecar": programs.sidecar(app)}
        prometheus = programs.prometheus(jobs)
        for job in jobs:
            prometheus.await_scrape(job)
        series = prometheus.series("direct")
        self.assertEqual(prometheus.series("sidecar"), with_serving_labels(series))
        metadata = prometheus.metadata("direct")
        self.assertEqual(prometheus.metadata("sidecar"), metadata)
        return prometheus, series, metadata

    def assert_text_beside_text(self, app, programs):
        """Beside a queue-proxy that speaks text only, the application is what the Python client writes as text."""
        queue_proxy = programs.python("text_target.py")
        prometheus = programs.prometheus({"pod": programs.sidecar(app, queue_proxy)})
        prometheus.await_scrape("pod")
        _, text = get(app, accept="text/plain;version=0.0.4")
        families = list(text_string_to_metric_families(text))
        expected = {
            frozenset({"__name__": sample.name, **sample.labels}.items()) for family in families for sample in family.samples
        }
        series = prometheus.series("pod")
        self.assertEqual({labels for labels in series if set(SERVING.items()) <= labels}, with_serving_labels(expected))
        self.assertIn(frozenset({("__name__", "kn_requests_total")}), series)
        metadata = prometheus.metadata("pod")
        for family in families:
            # This parser reads a counter's name without its ending, and an untyped family's type as unknown.
            name = family.name + ("_total" if family.type == "counter" else "")
            kind, text, _ = metadata[name]
            self.assertEqual(kind, family.type, name)
            if name != "process_open_fds":
                self.assertEqual(text, family.documentation, name)

    def test_every_type_of_metric_of_the_official_python_client(self):
        with Programs() as programs:
            app = programs.python("client_app.py")
            prometheus, series, metadata = self.assert_same_through_sidecar(app, programs)
            names = {dict(labels)["__name__"] for labels in series}
            self.assertLessEqual({"requests_total", "requests_created", "latency_seconds_bucket", "model_info", "state"}, names)
            self.assertEqual(metadata["latency_seconds"], ("histogram", "Duration of requests.", "seconds"))
            self.assertEqual(metadata["state"][0], "stateset")
            exemplars = prometheus.exemplars("direct")
            self.assertEqual(len(exemplars), 2)
            labelled = {(labels | frozenset(SERVING.items()), exemplar, value) for labels, exemplar, value in exemplars}
            self.assertEqual(prometheus.exemplars("sidecar"), labelled)

    def test_the_official_python_client_beside_a_queue_proxy(self):
        with Programs() as programs:
            self.assert_text_beside_text(programs.python("client_app.py"), programs)

    def test_kserves_own_server(self):
        with Programs() as programs:
            app = programs.python("kserve_app.py")
            request = urllib.request.Request(
                app.replace("/metrics", "/v1/models/echo:predict"),
                data=json.dumps({"instances": [1]}).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                self.assertEqual(json.load(answer), {"predictions": [1]})
            _, _, metadata = self.assert_same_through_sidecar(app, programs)
            self.assertEqual(metadata["request_predict_seconds"][0], "histogram")
            self.assert_text_beside_text(app, programs)


if __name__ == "__main__":
    unittest.main()
