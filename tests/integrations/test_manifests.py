"""The manifests of deploy: what holds of all kits. That the API server takes them is shown in tests/cluster."""

import json
import subprocess
import unittest

import yaml

from pod import ROOT

DEPLOY = ROOT / "deploy"

#: The folders that are kustomize bases.
KITS = sorted(str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml"))


def kustomized(kit):
    """The objects of a kit, as `kubectl apply -k` would apply them."""
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / kit], stdout=subprocess.PIPE, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


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
        self.assertEqual(KITS, [*autoscaling, "grafana", "inject", "inject/v1beta1", "knative", "kserve", "kserve-runtime", "pod", "prometheus", "rating/cloudkitty"])
        for kit in KITS:
            folder = "inject" if kit == "inject/v1beta1" else kit
            self.assertIn(f"-k deploy/{kit}", (DEPLOY / folder / "README.md").read_text(), kit)
            if kit == folder:
                self.assertIn(f"| `{kit}` |", (DEPLOY / "README.md").read_text())

    def test_the_sidecar_may_do_nothing_but_its_work(self):
        sidecars = [
            (spec, container)
            for kit in KITS
            for thing in kustomized(kit)
            for spec in pod_specs(thing.get("spec", {}))
            for container in [*spec.get("initContainers", []), *spec["containers"]]
            if container["name"] == "qpext"
        ]
        self.assertEqual(len(sidecars), 3)
        for spec, container in sidecars:
            security = container["securityContext"]
            self.assertTrue(security["readOnlyRootFilesystem"] and security["runAsNonRoot"])
            self.assertFalse(security["allowPrivilegeEscalation"])
            # A ServingRuntime leaves it to the model.
            self.assertFalse(spec.get("automountServiceAccountToken", "supportedModelFormats" not in spec))
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
