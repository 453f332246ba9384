"""The API server takes each kit as its README has it applied, with the definitions of those whose resources it has, and no field too many."""

import unittest

from cluster import ROOT, Cluster
from parts import files
from serving import define

DEPLOY = ROOT / "deploy"

#: The kits, by the namespaces in which they are applied.
KITS = {
    **dict.fromkeys(("inject", "inject/v1beta1", "knative", "kserve", "kserve-runtime", "pod", "autoscaling/keda"), "default"),
    **dict.fromkeys(("grafana", "prometheus", "autoscaling/prometheus-adapter"), "monitoring"),
    "rating/cloudkitty": "cloudkitty",
}


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(["admissionregistration.k8s.io/v1beta1=true"])
        cls.enterClassContext(cls.cluster)
        knative, kserve = files("knative-0.48") / "core" / "300-resources", files("kserve-0.19") / "crd" / "full"
        definitions = [
            *knative.glob("*.yaml"),
            *kserve.glob("serving*.yaml"),
            *files("keda").glob("keda.sh_*.yaml"),
            *files("prometheus-operator").glob("*.yaml"),
        ]
        define(cls.cluster, *sorted(definitions))
        for namespace in set(KITS.values()) - {"default"}:
            cls.cluster.namespace(namespace)

    def test_each_kit_is_taken(self):
        kits = {str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml")}
        self.assertEqual(set(KITS), kits)
        for kit, namespace in KITS.items():
            with self.subTest(kit=kit):
                words = [] if kit == "autoscaling/prometheus-adapter" else ["-n", namespace]
                self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", *words, "-k", DEPLOY / kit)
        self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", "monitoring", "-f", DEPLOY / "prometheus" / "servicemonitor.yaml")


if __name__ == "__main__":
    unittest.main()
