"""The kit for Prometheus: its rules by promtool, and that it says the same to Prometheus and to the operator."""

import subprocess
import unittest

import yaml

from pod import ROOT

KIT = ROOT / "deploy" / "prometheus"


def shipped(path):
    """A file of the kit."""
    return yaml.safe_load((KIT / path).read_text())


class Rules(unittest.TestCase):
    def test_promtool_tests_every_alert(self):
        done = subprocess.run(["promtool", "test", "rules", KIT / "rules_test.yaml"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        alerts = {rule["alert"] for group in shipped("rules.yaml")["groups"] for rule in group["rules"] if "alert" in rule}
        tests = shipped("rules_test.yaml")["tests"]
        fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case.get("exp_alerts")}
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
        self.assertEqual(shipped("servicemonitor.yaml")["spec"]["endpoints"], shipped("podmonitor.yaml")["spec"]["podMetricsEndpoints"])


if __name__ == "__main__":
    unittest.main()
