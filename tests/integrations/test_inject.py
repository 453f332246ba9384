"""The injection policy: its expressions are evaluated by another implementation of CEL, on pods as clusters have them.

No registry holds an API server. What it does around the expressions is done here: conditions first, then variables in their
order, then the mutation, whose typed objects are read as what they are in JSON.
"""

import copy
import json
import re
import subprocess
import unittest

import celpy
import celpy.adapter
import kubernetes_validate
import yaml

from pod import ROOT, SIDECAR, Programs, await_that, free_port, get

INJECT = ROOT / "deploy" / "inject"

ASKED = {"qpext.io/inject": "true"}
KNATIVE = {
    "serving.knative.dev/service": "iris",
    "serving.knative.dev/configuration": "iris-predictor",
    "serving.knative.dev/revision": "iris-predictor-00001",
}


def evaluate(expression, **things):
    environment = celpy.Environment()
    # A typed object of the policy is a map with names for keys.
    expression = re.sub(r"(JSONPatch|Object(\.[a-zA-Z]+)*)\{", "{", expression)
    expression = re.sub(r"(?<![\"\w.])([a-zA-Z]+):(\s)", r'"\1":\2', expression)
    program = environment.program(environment.compile(expression))
    result = program.evaluate({name: celpy.adapter.json_to_cel(thing) for name, thing in things.items()})
    if isinstance(result, list):
        # The sum of two lists is one of Python's, of which the encoder takes booleans for numbers.
        result = celpy.celtypes.ListType(result)
    return json.loads(json.dumps(result, cls=celpy.adapter.CELJSONEncoder))


def policy(folder=INJECT):
    return list(yaml.safe_load_all((folder / "policy.yaml").read_text()))


def admit(pod):
    """The pod as the API server would have it."""
    spec = policy()[0]["spec"]
    if not all(evaluate(condition["expression"], object=pod) for condition in spec["matchConditions"]):
        return pod
    variables = {}
    for variable in spec["variables"]:
        variables[variable["name"]] = evaluate(variable["expression"], object=pod, variables=variables)
    [mutation] = spec["mutations"]
    assert mutation["patchType"] == "JSONPatch"
    pod = copy.deepcopy(pod)
    for patch in evaluate(mutation["jsonPatch"]["expression"], object=pod, variables=variables):
        apply(patch, pod)
    return pod


def apply(patch, thing):
    """Applies one operation of a JSON patch (RFC 6902), of which the policy has one kind."""
    assert patch["op"] == "add"
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in patch["path"].removeprefix("/").split("/"))
    for parent in parents:
        thing = thing[int(parent) if isinstance(thing, list) else parent]
    if isinstance(thing, list):
        thing.insert(len(thing) if last == "-" else int(last), patch["value"])
    else:
        thing[last] = patch["value"]


def pod(annotations=None, labels=None, queue_proxy=False, environment=None, name="app"):
    metadata = {"name": "iris", "annotations": annotations, "labels": labels}
    containers = [{"name": name, "image": "app:1"}]
    if queue_proxy:
        containers.append({"name": "queue-proxy", "image": "queue:1", "env": environment or []})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "spec": {"containers": containers},
    }


def job(init_containers=None):
    asked = pod(ASKED)
    asked["spec"]["restartPolicy"] = "Never"
    if init_containers is not None:
        asked["spec"]["initContainers"] = init_containers
    return asked


def sidecar(admitted):
    """The environment of the one sidecar that was added."""
    [container] = [container for container in admitted["spec"]["containers"] if container["name"] == "qpext"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


class Inject(unittest.TestCase):
    maxDiff = None

    def test_the_policies_are_valid_and_differ_by_their_version_only(self):
        for folder, api, versions in ((INJECT, "v1", ["1.36", "1.37"]), (INJECT / "v1beta1", "v1beta1", ["1.34", "1.35"])):
            things = policy(folder)
            self.assertEqual([thing["kind"] for thing in things], ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"])
            for thing in things:
                self.assertEqual(thing["apiVersion"], f"admissionregistration.k8s.io/{api}")
                for version in versions:
                    kubernetes_validate.validate(thing, version, strict=True)
                thing["apiVersion"] = "admissionregistration.k8s.io/v1"
            self.assertEqual(things, policy())

    def test_a_knative_pod_gets_one_sidecar_with_its_labels(self):
        asked = {**ASKED, "prometheus.io/port": "8080", "prometheus.io/path": "/stats?x=1", "qpext.io/targets": "agent=9089"}
        admitted = admit(pod(asked, KNATIVE, queue_proxy=True))
        self.assertEqual(
            sidecar(admitted),
            {
                "AGGREGATE_PROMETHEUS_METRICS_PORT": "9088",
                "QPEXT_QUEUE_PROXY_METRICS_PORT": "9091",
                "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT": "8080",
                "KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH": "/stats?x=1",
                "QPEXT_TARGETS": "agent=9089",
                "SERVING_SERVICE": "iris",
                "SERVING_CONFIGURATION": "iris-predictor",
                "SERVING_REVISION": "iris-predictor-00001",
            },
        )
        scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": "9088", "prometheus.io/path": "/metrics"}
        self.assertEqual(admitted["metadata"]["annotations"], {**asked, **scraped})
        kubernetes_validate.validate(admitted, kubernetes_validate.latest_version(), strict=True)
        self.assertEqual(admit(admitted), admitted, "never twice")

    def test_a_pod_that_ends_gets_one_that_does_not_keep_it_from_that(self):
        ordinary = admit(pod(ASKED))["spec"]["containers"][-1]
        setup = {"name": "setup", "image": "app:1"}
        for before in (None, [], [setup]):
            admitted = admit(job(before))
            self.assertEqual(admitted["spec"]["initContainers"], [{**ordinary, "restartPolicy": "Always"}, *(before or [])])
            self.assertEqual(admitted["spec"]["containers"], pod()["spec"]["containers"])
            kubernetes_validate.validate(admitted, kubernetes_validate.latest_version(), strict=True)
            self.assertEqual(admit(admitted), admitted, "never twice")

    def test_kserves_annotations_come_first(self):
        asked = {**ASKED, "prometheus.io/port": "1", "prometheus.kserve.io/port": "8082", "prometheus.kserve.io/path": "/prom"}
        environment = sidecar(admit(pod(asked, {"serving.kserve.io/inferenceservice": "iris", "app": "isvc.iris-predictor"})))
        self.assertEqual(environment["KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT"], "8082")
        self.assertEqual(environment["KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH"], "/prom")
        self.assertEqual(environment["QPEXT_QUEUE_PROXY_METRICS_PORT"], "", "there is none")
        self.assertEqual((environment["SERVING_SERVICE"], environment["SERVING_REVISION"]), ("iris", "isvc.iris-predictor"))

    def test_the_sidecar_is_scraped_by_plain_http_and_does_not_ask_who_speaks_tls_so(self):
        admitted = admit(pod({**ASKED, "prometheus.io/port": "8443", "prometheus.io/scheme": "https"}))
        self.assertEqual(admitted["metadata"]["annotations"]["prometheus.io/scheme"], "http")
        self.assertEqual(sidecar(admitted)["KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT"], "")
        admitted = admit(pod({**ASKED, "prometheus.io/port": "8080", "prometheus.io/scheme": "http"}))
        self.assertEqual(sidecar(admitted)["KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT"], "8080")

    def test_nobody_else_is_touched(self):
        aggregate = [{"name": "AGGREGATE_PROMETHEUS_METRICS_PORT", "value": "9088"}]
        for other in (
            pod(),
            pod({}),
            pod({"qpext.io/inject": "false"}),
            pod({"qpext.io/inject": ""}),
            pod({"prometheus.io/scrape": "true"}, KNATIVE),
            pod(ASKED, name="qpext"),
            pod(ASKED, KNATIVE, queue_proxy=True, environment=aggregate),
            pod({**ASKED, "serving.kserve.io/enable-metric-aggregation": "true"}, KNATIVE, queue_proxy=True),
        ):
            self.assertEqual(admit(other), other)
        for field, value in (("hostNetwork", True), ("os", {"name": "windows"})):
            other = pod(ASKED)
            other["spec"][field] = value
            self.assertEqual(admit(other), other)
        native = pod(ASKED)
        native["spec"]["initContainers"] = [{"name": "qpext", "image": "qpext:1", "restartPolicy": "Always"}]
        self.assertEqual(admit(native), native)

    def test_whatever_is_annotated_the_sidecar_starts(self):
        """A sidecar that ends at its start would keep the pod from being ready."""
        for annotations in (
            {},
            {"prometheus.io/port": ""},
            {"prometheus.io/port": "http"},
            {"prometheus.io/port": "0"},
            {"prometheus.io/port": "9088"},
            {"prometheus.io/port": "99999"},
            {"prometheus.io/port": "8080", "prometheus.io/path": "metrics"},
            {"prometheus.io/port": "8080", "prometheus.io/path": "/a b"},
            {"prometheus.io/port": "8080", "prometheus.io/path": "/a#b"},
            {"qpext.io/targets": "agent=9089"},
        ):
            for queue_proxy in (False, True):
                environment = sidecar(admit(pod({**ASKED, **annotations}, queue_proxy=queue_proxy)))
                with self.subTest(annotations=annotations, queue_proxy=queue_proxy), Programs() as programs:
                    port = str(free_port())
                    programs.run([SIDECAR], {**environment, "AGGREGATE_PROMETHEUS_METRICS_PORT": port}, stderr=subprocess.DEVNULL)
                    _, text = await_that("an answer", lambda: get(f"http://127.0.0.1:{port}/healthz"))
                    self.assertEqual(text, "ok\n")


if __name__ == "__main__":
    unittest.main()
