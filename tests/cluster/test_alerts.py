"""Alerts in a cluster: what is missed of real pods, by the kit's rules, and what is not."""

import re
import unittest

import prometheus
from cluster import await_that
from models import start

RUNBOOKS = (prometheus.KIT / "runbooks.md").read_text()


#: What the models' bodies do to the others is another matter.
MISSED = ("QpextTargetDown", "QpextTargetNeverUp", "QpextScrapeFailed", "QpextNeverScraped", "QpextNobodyAnswers")


def firing():
    """The alerts that fire because something is missed, by their name, pod and target."""
    alerts = (alert["labels"] for alert in prometheus.api("alerts")["alerts"] if alert["state"] == "firing")
    found = {(each["alertname"], each.get("namespace"), each.get("pod"), each.get("target")) for each in alerts}
    return {each for each in found if each[0] in MISSED}


class Alerts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = start(cls)

    def test_what_was_up_is_missed_and_what_never_was_is_another_matter(self):
        cluster = self.cluster
        # One target of each pod is down from the first: that is told after an hour, which is a second here, and as nothing else.
        names = ("llama-1", "llama-2", "llama-3")
        never = {("QpextTargetNeverUp", "default", name, "agent") for name in names} | {("QpextTargetNeverUp", "batch", "llama-1", "agent")}
        await_that("what has never been up", lambda: firing() == never)

        sandboxes = {
            (sandbox.pod["metadata"]["namespace"], sandbox.pod["metadata"]["name"]): sandbox for sandbox in cluster.node.sandboxes.values()
        }
        cluster.end(sandboxes["default", "llama-1"].processes["kserve-container"])
        model = ("QpextTargetDown", "default", "llama-1", "app")
        await_that("a model that is missed", lambda: firing() == never | {model})

        cluster.end(sandboxes["default", "llama-2"].processes["qpext"])
        pod = ("QpextScrapeFailed", "default", "llama-2", None)
        gone = ("QpextTargetNeverUp", "default", "llama-2", "agent")
        await_that("a pod that is missed", lambda: firing() == (never | {model, pod}) - {gone})

    def test_each_has_its_runbook(self):
        for alert in prometheus.api("rules")["groups"][0]["rules"]:
            if alert["type"] == "alerting":
                with self.subTest(alert=alert["name"]):
                    self.assertEqual(alert["annotations"]["runbook"], f"deploy/prometheus/runbooks.md#{alert['name'].lower()}")
                    self.assertTrue(re.search(rf"^## {alert['name']}$", RUNBOOKS, re.M))


if __name__ == "__main__":
    unittest.main()
