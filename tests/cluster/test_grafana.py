"""The dashboard: every query in it is asked of a real Prometheus that scraped real sidecars, and has an answer."""

import json
import re
import time
import unittest

import prometheus
from cluster import ROOT
from models import OTHER, REVISION, SERVICE, WINDOW_SECONDS, start

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())

#: What the dashboard's variables stand for: a choice, and Grafana's own.
VALUES = {"namespace": "default", "service": SERVICE, "revision": REVISION, "__rate_interval": f"{WINDOW_SECONDS}s"}


def filled(query):
    """The query as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda match: VALUES[match[1]], query)


class Dashboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        start(cls)

    def test_every_query_has_data(self):
        queries = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
        self.assertGreater(len(queries), 20)
        for title, query in queries:
            with self.subTest(panel=title, query=query):
                result = prometheus.api("query", query=filled(query))["result"]
                self.assertTrue(result)
                for element in result:
                    self.assertNotEqual(element["value"][1], "NaN")

    def test_its_choices_are_found(self):
        choices = {variable["name"]: variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"}
        self.assertEqual(set(choices), {"namespace", "service", "revision"})
        for name, definition in choices.items():
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", definition).groups()
            found = prometheus.api("series", **{"match[]": filled(series), "start": time.time() - 60})
            expected = {VALUES[name], OTHER} if name == "namespace" else {VALUES[name]}
            self.assertEqual({labels[label] for labels in found}, expected)

    def test_panels_are_told_apart_and_explain_themselves(self):
        panels = DASHBOARD["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        places = [(place["x"], place["y"]) for place in (panel["gridPos"] for panel in panels)]
        self.assertEqual(len(set(places)), len(places))
        for panel in panels:
            if panel["type"] != "row":
                self.assertTrue(panel["description"] and panel["fieldConfig"]["defaults"]["unit"], panel["title"])


if __name__ == "__main__":
    unittest.main()
