"""Injection: the real API server admits pods, and those that its controllers make, by the kit's policy."""

import contextlib
import copy
import unittest
import urllib.request

from cluster import ROOT, SIDECAR, Cluster, await_that

VERSIONS = {"v1": "deploy/inject", "v1beta1": "deploy/inject/v1beta1"}

ASKED = {"qpext.io/inject": "true", "prometheus.io/port": "8080"}
KNATIVE = {
    "serving.knative.dev/service": "iris",
    "serving.knative.dev/configuration": "iris-predictor",
    "serving.knative.dev/revision": "iris-predictor-00001",
}
LLM = {"app.kubernetes.io/part-of": "llminferenceservice", "app.kubernetes.io/name": "llama", "llm-d.ai/role": "both"}


def pod(annotations=ASKED, labels=None, queue_proxy=False, container=None, **spec):
    containers = [{"name": "app", "image": "app:1", **(container or {})}]
    if queue_proxy:
        containers.append({"name": "queue-proxy", "image": "queue:1"})
    metadata = {"name": "iris", "annotations": annotations, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "spec": {"containers": containers, **spec},
    }


def model(port=8000, scheme="HTTP", **labels):
    probe = {"httpGet": {"path": "/health", "port": port, "scheme": scheme}}
    container = {"name": "main", "ports": [{"containerPort": port}], "readinessProbe": probe}
    return pod({"qpext.io/inject": "true"}, {**LLM, **labels}, container=container)


def sidecars(admitted):
    """What was added to a pod: whether it is native, and its container."""
    spec = admitted["spec"]
    containers = [(False, container) for container in spec["containers"]]
    containers += [(True, container) for container in spec.get("initContainers", [])]
    return [(native, container) for native, container in containers if container["name"] == "qpext"]


class InjectTests:
    """The cases, for each version of the policy's API."""

    version = ""
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.cluster = cls.stack.enter_context(Cluster(["admissionregistration.k8s.io/v1beta1=true"]))
        try:
            cls.namespace = cls.cluster.namespace("ml")
            cls.cluster.inject(VERSIONS[cls.version])
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    @classmethod
    def admit(cls, asked, namespace=None):
        """The pod as the API server would have it."""
        path = f"/api/v1/namespaces/{namespace or cls.namespace}/pods?dryRun=All"
        return cls.cluster.api("POST", path, asked)

    def sidecar(self, asked, namespace=None):
        """The one that a pod gets, which is native."""
        [(native, container)] = sidecars(self.admit(asked, namespace))
        self.assertTrue(native)
        return container

    def environment(self, asked):
        return {entry["name"]: entry.get("value", "") for entry in self.sidecar(asked)["env"]}

    def test_a_knative_pod_gets_one_sidecar_with_its_labels(self):
        annotations = {**ASKED, "prometheus.io/path": "/stats?x=1", "qpext.io/targets": "agent=9089"}
        asked = pod(annotations, KNATIVE, queue_proxy=True)
        self.assertEqual(
            self.environment(asked),
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
        admitted = self.admit(asked)
        scraped = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "9088",
            "prometheus.io/path": "/metrics",
            "prometheus.istio.io/merge-metrics": "false",
        }
        self.assertEqual(admitted["metadata"]["annotations"], {**annotations, **scraped})

    def test_it_stands_before_the_other_init_containers_and_runs_on(self):
        setup = {"name": "setup", "image": "app:1"}
        for before in ([], [setup]):
            admitted = self.admit(pod(initContainers=before))
            first, *others = admitted["spec"]["initContainers"]
            self.assertEqual((first["name"], first["restartPolicy"]), ("qpext", "Always"))
            self.assertEqual([container["name"] for container in others], [container["name"] for container in before])
            self.assertEqual([container["name"] for container in admitted["spec"]["containers"]], ["app"])

    def test_an_annotation_makes_it_an_ordinary_container_but_not_in_a_pod_that_ends(self):
        annotations = {**ASKED, "qpext.io/native": "false"}
        [(native, container)] = sidecars(self.admit(pod(annotations)))
        self.assertFalse(native)
        self.assertNotIn("restartPolicy", container)
        for policy in ("Never", "OnFailure"):
            [(native, _)] = sidecars(self.admit(pod(annotations, restartPolicy=policy)))
            self.assertTrue(native)

    def test_the_pods_of_controllers_get_it(self):
        template = {"metadata": {"annotations": ASKED, "labels": {"app": "iris"}}, "spec": pod()["spec"]}
        job = copy.deepcopy(template)
        job["spec"]["restartPolicy"] = "Never"
        selected = {"selector": {"matchLabels": {"app": "iris"}}, "template": template}
        namespace = self.cluster.namespace("controllers")
        for group, kind, spec in (
            ("apps/v1", "deployments", {**selected, "replicas": 2}),
            ("apps/v1", "statefulsets", {**selected, "serviceName": "iris"}),
            ("apps/v1", "daemonsets", selected),
            ("batch/v1", "jobs", {"template": job}),
        ):
            path = f"/apis/{group}/namespaces/{namespace}/{kind}"
            self.cluster.api("POST", path, {"metadata": {"name": kind}, "spec": spec})

            def made():
                owned = [
                    pod
                    for pod in self.cluster.pods(namespace)
                    if pod["metadata"]["name"].startswith(kind) and pod["status"].get("phase") == "Running"
                ]
                return owned if len(owned) == spec.get("replicas", 1) else None

            for one in await_that(f"pods of {kind}", made):
                [(native, container)] = sidecars(one)
                self.assertTrue(native, kind)
                service = [entry["value"] for entry in container["env"] if entry["name"] == "SERVING_SERVICE"]
                self.assertEqual(service, ["iris"])

    def test_kserves_annotations_and_labels_come_first(self):
        annotations = {"qpext.io/inject": "true", "prometheus.io/port": "1", "prometheus.kserve.io/port": "8082", "prometheus.kserve.io/path": "/prom"}
        labels = {"serving.kserve.io/inferenceservice": "iris", "app": "isvc.iris-predictor", "app.kubernetes.io/name": "other"}
        environment = self.environment(pod(annotations, labels))
        self.assertEqual(environment["KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT"], "8082")
        self.assertEqual(environment["KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH"], "/prom")
        self.assertEqual(environment["QPEXT_QUEUE_PROXY_METRICS_PORT"], "", "there is none")
        self.assertEqual((environment["SERVING_SERVICE"], environment["SERVING_REVISION"]), ("iris", "isvc.iris-predictor"))

    def test_an_ordinary_pod_goes_by_its_application(self):
        for labels, service in (
            ({"app.kubernetes.io/name": "shop", "app": "other"}, "shop"),
            ({"app": "shop"}, "shop"),
            ({}, ""),
            (None, ""),
        ):
            environment = self.environment(pod(labels=labels))
            self.assertEqual((environment["SERVING_SERVICE"], environment["SERVING_REVISION"]), (service, ""), labels)

    def test_the_models_of_an_llm_inference_service_are_asked_by_their_port_and_scheme(self):
        tls = '[{"name":"main","url":"https://localhost:%d/metrics","insecure_skip_verify":true}]'
        for asked, targets, revision in (
            (model(), "main=8000", "llama-both"),
            (model(8001, **{"llm-d.ai/role": "decode"}), "main=8001", "llama-decode"),
            (model(8000, "HTTPS", **{"llm-d.ai/role": "prefill"}), tls % 8000, "llama-prefill"),
            (model(8001, "HTTPS", **{"llm-d.ai/role": "decode"}), tls % 8001, "llama-decode"),
        ):
            environment = self.environment(asked)
            self.assertEqual(environment["QPEXT_TARGETS"], targets)
            self.assertEqual((environment["SERVING_SERVICE"], environment["SERVING_REVISION"]), ("llama", revision))
        worker = model()
        for probe in ("readinessProbe", "livenessProbe"):
            worker["spec"]["containers"][0].pop(probe, None)
        self.assertEqual(sidecars(self.admit(worker)), [], "a worker of a model on several nodes serves nothing")
        other = model()
        other["metadata"]["annotations"]["qpext.io/targets"] = "mine=1234"
        self.assertEqual(self.environment(other)["QPEXT_TARGETS"], "mine=1234")

    def test_the_sidecar_is_scraped_by_plain_http_and_does_not_ask_who_speaks_tls_so(self):
        tls = {**ASKED, "prometheus.io/scheme": "https", "qpext.io/targets": "app=https://localhost:8080/metrics"}
        admitted = self.admit(pod(tls))
        self.assertEqual(admitted["metadata"]["annotations"]["prometheus.io/scheme"], "http")
        self.assertEqual(self.environment(pod(tls))["KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT"], "")
        self.assertEqual(sidecars(self.admit(pod({**ASKED, "prometheus.io/scheme": "https"}))), [], "nobody to ask")

    def test_without_anybody_to_ask_nothing_is_added(self):
        for port in (None, "", "http", "0", "9088", "99999", "-1", "1e3"):
            annotations = {"qpext.io/inject": "true", **({} if port is None else {"prometheus.io/port": port})}
            asked = pod(annotations)
            admitted = self.admit(asked)
            self.assertEqual(sidecars(admitted), [], port)
            self.assertEqual(admitted["metadata"]["annotations"], annotations)
            # The queue-proxy can be asked.
            self.assertEqual(self.environment(pod(annotations, queue_proxy=True))["QPEXT_QUEUE_PROXY_METRICS_PORT"], "9091")

    def test_a_path_that_is_none_is_left_out(self):
        for path in ("metrics", "/a b", "/a#b"):
            environment = self.environment(pod({**ASKED, "prometheus.io/path": path}))
            self.assertEqual(environment["KSERVE_CONTAINER_PROMETHEUS_METRICS_PATH"], "")

    def test_whatever_is_annotated_the_sidecar_starts(self):
        """One that ends at its start would keep the application from starting."""
        for number, annotations in enumerate(
            (
                {},
                {"prometheus.io/path": "metrics"},
                {"prometheus.io/path": "/a b"},
                {"prometheus.io/path": "/a#b"},
                {"prometheus.io/scheme": "ftp"},
                {"qpext.io/targets": "agent=9089"},
            )
        ):
            with self.subTest(annotations=annotations):
                # Nothing else is at this address.
                port = 20000 + number
                environment = self.environment(pod({**ASKED, **annotations}))
                environment["AGGREGATE_PROMETHEUS_METRICS_PORT"] = str(port)
                process = self.cluster.run(f"sidecar-{number}", SIDECAR, environment=environment)

                def lives():
                    self.assertIsNone(process.poll(), self.cluster.log(f"sidecar-{number}"))
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
                        return answer.read() == b"ok\n"

                await_that("a sidecar that is alive", lives)
                self.cluster.end(process)

    def test_nobody_else_is_touched(self):
        aggregate = {"env": [{"name": "AGGREGATE_PROMETHEUS_METRICS_PORT", "value": "9088"}]}
        runs_on = {"image": "x:1", "restartPolicy": "Always"}
        for what, other in (
            ("not asked", pod(None)),
            ("asked not to", pod({**ASKED, "qpext.io/inject": "false"})),
            ("scraped otherwise", pod({"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}, KNATIVE)),
            ("there by its name", pod(container={"name": "qpext"})),
            ("there by its variable", pod(container=aggregate)),
            ("there by its port", pod(container={"ports": [{"containerPort": 9088}]})),
            ("there as an init container", pod(initContainers=[{"name": "qpext", **runs_on}])),
            ("there as an init container of another name", pod(initContainers=[{"name": "x", **runs_on, **aggregate}])),
            ("aggregated by KServe", pod({**ASKED, "serving.kserve.io/enable-metric-aggregation": "true"}, KNATIVE, queue_proxy=True)),
            ("in the node's network", pod(hostNetwork=True)),
            ("Windows", pod(os={"name": "windows"})),
            ("on Windows' nodes", pod(nodeSelector={"kubernetes.io/os": "windows"})),
        ):
            admitted = self.admit(other)
            before = {container["name"] for kind in ("containers", "initContainers") for container in other["spec"].get(kind, [])}
            after = {container["name"] for kind in ("containers", "initContainers") for container in admitted["spec"].get(kind, [])}
            self.assertEqual(after, before, what)
            self.assertEqual(admitted["metadata"].get("annotations"), other["metadata"].get("annotations"), what)

    def test_it_has_a_user_and_a_group_of_its_own_and_no_rights(self):
        context = self.sidecar(pod())["securityContext"]
        self.assertEqual(
            context,
            {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        )

    def test_openshift_gives_it_a_user(self):
        body = {"metadata": {"name": "openshift", "annotations": {"openshift.io/sa.scc.uid-range": "1000680000/10000"}}}
        self.cluster.api("POST", "/api/v1/namespaces", body)
        self.cluster.await_namespace("openshift")
        context = self.sidecar(pod(), "openshift")["securityContext"]
        self.assertFalse({"runAsUser", "runAsGroup"} & context.keys())
        self.assertTrue(context["runAsNonRoot"])

    def test_a_namespace_whose_pods_must_be_restricted_takes_it(self):
        body = {"metadata": {"name": "restricted", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        self.cluster.api("POST", "/api/v1/namespaces", body)
        self.cluster.await_namespace("restricted")
        own = {key: value for key, value in self.sidecar(pod())["securityContext"].items() if key != "runAsUser"}
        self.sidecar(pod(container={"securityContext": {**own, "runAsUser": 1}}), "restricted")

    def test_no_quota_and_no_common_range_of_limits_keeps_a_pod_from_being_made(self):
        own = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}

        def item(**limits):
            return {"limits": [{"type": "Container", **limits}]}

        for name, kind, spec in (
            ("quota", "resourcequotas", {"hard": {"limits.cpu": "4", "limits.memory": "4Gi", "requests.cpu": "4", "requests.memory": "4Gi"}}),
            ("max", "limitranges", item(max={"memory": "128Mi", "cpu": "500m"})),
            ("min", "limitranges", item(min={"cpu": "10m", "memory": "16Mi"})),
            ("ratio", "limitranges", item(maxLimitRequestRatio={"cpu": "4", "memory": "4"})),
        ):
            namespace = self.cluster.namespace(f"with-{name}")
            self.cluster.api("POST", f"/api/v1/namespaces/{namespace}/{kind}", {"metadata": {"name": name}, "spec": spec})
            await_that(
                "a pod that may be made without the sidecar",
                lambda: self.admit(pod(None, container={"resources": own}), namespace),
            )
            resources = self.sidecar(pod(container={"resources": own}), namespace)["resources"]
            self.assertEqual(resources, {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}, name)

    def test_it_lives_within_the_pods_own_resources(self):
        for resources in ({"limits": {"memory": "128Mi"}}, {"requests": {"cpu": "10m"}, "limits": {"cpu": "20m", "memory": "64Mi"}}):
            self.assertEqual(self.sidecar(pod(resources=resources))["resources"], {})

    def test_annotations_say_what_it_asks_for_and_may_have(self):
        usual = {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}}
        for annotations, requests, limits in (
            ({"cpu": "20m", "memory": "24Mi"}, {"cpu": "20m", "memory": "24Mi"}, usual["limits"]),
            ({"cpu-limit": "", "memory-limit": "64Mi"}, usual["requests"], {"memory": "64Mi"}),
            ({"cpu-limit": "20m", "memory-limit": "16Mi"}, {"cpu": "20m", "memory": "16Mi"}, {"cpu": "20m", "memory": "16Mi"}),
            ({"cpu": "", "memory": "none", "cpu-limit": "-1", "memory-limit": "0"}, {}, {}),
        ):
            asked = pod({**ASKED, **{f"qpext.io/{name}": value for name, value in annotations.items()}})
            resources = self.sidecar(asked)["resources"]
            self.assertEqual((resources.get("requests", {}), resources.get("limits", {})), (requests, limits), annotations)


class Policies(unittest.TestCase):
    def test_they_differ_by_their_version_only(self):
        v1, v1beta1 = ((ROOT / folder / "policy.yaml").read_text() for folder in VERSIONS.values())
        version = "apiVersion: admissionregistration.k8s.io/v1"
        self.assertEqual(v1.count(f"{version}\n"), 2)
        self.assertEqual(v1beta1, v1.replace(version, f"{version}beta1"))


class InjectV1(InjectTests, unittest.TestCase):
    version = "v1"


class InjectV1Beta1(InjectTests, unittest.TestCase):
    version = "v1beta1"


if __name__ == "__main__":
    unittest.main()
