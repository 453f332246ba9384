"""The manifests of deploy: what kubectl makes of each kit is what Kubernetes and its extensions take."""

import json
import subprocess
import unittest

import kubernetes_validate
import yaml

from pod import ROOT

DEPLOY = ROOT / "deploy"

#: The folders that are kustomize bases.
KITS = sorted(str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml"))

#: Of kinds that no registry has a schema of: the fields that are used here, as their definitions have them. A set is what may
#: stand in an object, or in each object of a list; `None` is whatever the schema of a pod says, or free text.
RELABELING = {"sourceLabels": None, "regex": None, "action": None, "replacement": None, "targetLabel": None}
RULE = {"record": None, "alert": None, "expr": None, "for": None, "labels": None, "annotations": None}
ENDPOINT = {"interval": None, "scrapeTimeout": None, "relabelings": RELABELING}
MODEL = {"modelFormat": {"name": None}, "storageUri": None}
FIELDS = {
    "serving.kserve.io/v1beta1 InferenceService": {"predictor": {"model": MODEL}},
    "serving.knative.dev/v1 Service": {"template": {"metadata": None, "spec": None}},
    "monitoring.coreos.com/v1 PodMonitor": {
        "namespaceSelector": {"any": None},
        "selector": {"matchExpressions": {"key": None, "operator": None}},
        "podMetricsEndpoints": ENDPOINT,
    },
    "keda.sh/v1alpha1 ScaledObject": {
        "scaleTargetRef": {"name": None},
        "minReplicaCount": None,
        "maxReplicaCount": None,
        "cooldownPeriod": None,
        "initialCooldownPeriod": None,
        "advanced": {"restoreToOriginalReplicaCount": None},
        "triggers": {
            "type": None,
            "name": None,
            "metadata": dict.fromkeys(
                ("serverAddress", "query", "threshold", "activationThreshold")
                + ("url", "format", "valueLocation", "aggregateFromKubeServiceEndpoints", "aggregationType")
                + ("targetValue", "activationTargetValue")
            ),
        },
    },
    "monitoring.coreos.com/v1 PrometheusRule": {"groups": {"name": None, "rules": RULE}},
}


def kustomized(kit):
    """The objects of a kit, as `kubectl apply -k` would apply them."""
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / kit], stdout=subprocess.PIPE, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def unknown(value, fields, place):
    """Where something stands that is not among the fields."""
    if fields is None:
        return []
    if isinstance(value, list):
        return [found for index, entry in enumerate(value) for found in unknown(entry, fields, f"{place}[{index}]")]
    found = [f"{place}.{name}" for name in value if name not in fields]
    for name in set(value) & set(fields):
        found += unknown(value[name], fields[name], f"{place}.{name}")
    return found


def pod_specs(thing):
    """The specifications of pods that stand in an object."""
    if isinstance(thing, dict):
        if "containers" in thing:
            yield thing
        for value in thing.values():
            yield from pod_specs(value)


class Manifests(unittest.TestCase):
    def test_each_kit_has_a_readme_that_names_its_command(self):
        autoscaling = ["autoscaling/keda", "autoscaling/prometheus-adapter"]
        self.assertEqual(KITS, [*autoscaling, "grafana", "inject", "inject/v1beta1", "knative", "kserve", "pod", "prometheus", "rating/cloudkitty"])
        for kit in KITS:
            folder = "inject" if kit == "inject/v1beta1" else kit
            self.assertIn(f"-k deploy/{kit}", (DEPLOY / folder / "README.md").read_text(), kit)
            if kit == folder:
                self.assertIn(f"| `{kit}` |", (DEPLOY / "README.md").read_text())

    def test_every_object_is_valid(self):
        for kit in KITS:
            for thing in kustomized(kit):
                kind = f"{thing['apiVersion']} {thing['kind']}"
                with self.subTest(kit=kit, kind=kind):
                    if kind.startswith("admissionregistration.k8s.io/"):
                        self.assertIn(kit, ("inject", "inject/v1beta1"), "the API server reads them, in tests/cluster")
                    elif kind in FIELDS:
                        self.assertEqual(unknown(thing["spec"], FIELDS[kind], "spec"), [])
                    else:
                        kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)
                    for spec in pod_specs(thing.get("spec", {})):
                        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it"}, "spec": spec}
                        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)

    def test_the_sidecar_may_do_nothing_but_its_work(self):
        sidecars = [
            (spec, container)
            for kit in KITS
            for thing in kustomized(kit)
            for spec in pod_specs(thing.get("spec", {}))
            for container in [*spec.get("initContainers", []), *spec["containers"]]
            if container["name"] == "qpext"
        ]
        self.assertEqual(len(sidecars), 2)
        for spec, container in sidecars:
            security = container["securityContext"]
            self.assertTrue(security["readOnlyRootFilesystem"] and security["runAsNonRoot"])
            self.assertFalse(security["allowPrivilegeEscalation"] or spec["automountServiceAccountToken"])
            self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(set(container["resources"]), {"requests", "limits"})
            self.assertEqual(security["runAsGroup"], security["runAsUser"])

    def test_the_image_of_the_queue_proxy_is_a_patch_of_knatives_configuration(self):
        patch = yaml.safe_load((DEPLOY / "kserve" / "config-deployment.yaml").read_text())
        self.assertEqual(list(patch), ["data"])
        self.assertEqual(list(patch["data"]), ["queue-sidecar-image"])
        # kubectl makes of it what the API server would.
        configuration = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "config-deployment"},
            "data": {"_example": "x", "queue-sidecar-image": "former"},
        }
        command = ["kubectl", "patch", "--local", "--filename", "-", "--output", "json", "--type", "merge"]
        command += ["--patch-file", DEPLOY / "kserve" / "config-deployment.yaml"]
        done = subprocess.run(command, input=json.dumps(configuration), stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(json.loads(done.stdout)["data"], {"_example": "x", **patch["data"]})


if __name__ == "__main__":
    unittest.main()
