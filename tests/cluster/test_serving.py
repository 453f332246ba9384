"""Knative's and KServe's own controllers make pods of the kits, and a real node runs them, with Knative's own queue-proxy."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import unittest

from cluster import ROOT, Cluster, await_that
from node import RealNode, on_a_node
from parts import files
from serving import KServe, Knative, LLMInferenceServices, define
from test_node import PER_SECOND, Pods, get

DEPLOY = ROOT / "deploy"


class Serving:
    """What holds of each release of both: a test of this is a class below."""

    knative_release: str
    kserve_release: str
    # What KServe calls a model without Knative.
    without_knative: str

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(node=RealNode)
        cls.enterClassContext(cls.cluster)
        cls.knative = Knative(cls.cluster, cls.knative_release)
        cls.kserve = KServe(cls.cluster, cls.kserve_release)
        node = cls.cluster.node
        node.name_image("app:1", f"docker.io/kserve/sklearnserver:{cls.kserve.version}", "example.com/sklearn-iris:1.0.0")
        node.name_image("done:1", f"docker.io/{cls.kserve.storage_initializer}")
        node.name_image(f"qpext-queue:{cls.knative_release}", "registry.example/qpext-queue:0.1.0")
        patch = ("patch", "configmap", "-n", "knative-serving")
        cls.cluster.kubectl(*patch, "config-observability", "--patch", '{"data": {"request-metrics-protocol": "prometheus"}}')
        cls.cluster.kubectl(*patch, "config-deployment", "--patch-file", DEPLOY / "kserve" / "config-deployment.yaml")

    def await_one(self):
        """The one pod of the namespace, once it is ready."""

        def ready():
            names = [each["metadata"]["name"] for each in self.cluster.pods(self.namespace)]
            return self.ready(names[0]) if len(names) == 1 else None

        return await_that("a pod that is ready", ready)

    def make_model(self, name, annotations):
        """The kit's model, by another name and with other annotations."""
        model = json.loads(self.cluster.kubectl("create", "--dry-run=client", "-o", "json", "-f", DEPLOY / "kserve" / "inferenceservice.yaml"))
        model["metadata"] = {"name": name, "annotations": annotations}
        self.cluster.api("POST", f"/apis/serving.kserve.io/v1beta1/namespaces/{self.namespace}/inferenceservices", model)

    def containers(self, pod):
        return {each["name"] for each in pod["spec"]["containers"]}

    def test_the_drop_in_serves_what_the_queue_proxy_and_the_model_count(self):
        self.cluster.kubectl("apply", "-n", self.namespace, "-k", DEPLOY / "kserve")
        pod = self.await_one()
        self.assertEqual(self.containers(pod), {"kserve-container", "queue-proxy"})
        annotations = pod["metadata"]["annotations"]
        self.assertEqual((annotations["prometheus.io/port"], annotations["prometheus.io/path"]), ("9088", "/metrics"))
        text = get(pod["status"]["podIP"])
        labels = {
            "service_name": "sklearn-iris-predictor",
            "configuration_name": "sklearn-iris-predictor",
            "revision_name": "sklearn-iris-predictor-00001",
        }
        spelt = ",".join(f'{name}="{value}"' for name, value in labels.items())
        self.assertRegex(text, rf"(?m)^worked_total{{{spelt}}} \d+$")
        self.assertRegex(text, r'(?m)^qpext_target_up{target="queue-proxy".*} 1$')

        # Of its two programs the queue-proxy is in a group of its own: what is sent to the other's reaches it once.
        groups = {}
        for process in self.cluster.node.pids(pod, "queue-proxy"):
            folder = pathlib.Path("/proc") / str(process)
            groups[(folder / "comm").read_text().strip()] = os.getpgid(process)
        self.assertEqual(set(groups), {"qpext", "queue"})
        self.assertNotEqual(groups["qpext"], groups["queue"])

        # The queue-proxy ends when the last request has, and then the model is asked to end: what it counts from there on goes with
        # the drop-in.
        lost, of_all = self.lost_of(pod, "kserve-container")
        print(f"KServe {self.kserve_release}, drop-in: {lost:.0f} counts lost before the model's own drain, {of_all:.0f} with it")
        self.assertLess(lost, PER_SECOND)

    def test_knatives_webhook_takes_the_service_without_a_warning(self):
        done = subprocess.run(
            ["kubectl", "apply", "-n", self.namespace, "-k", DEPLOY / "knative"],
            env=self.cluster.kubectl_environment,
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual([line for line in done.stderr.splitlines() if "version skew" not in line], [])
        pod = self.await_one()
        self.assertEqual(self.containers(pod), {"user-container", "qpext", "queue-proxy"})
        text = get(pod["status"]["podIP"])
        self.assertRegex(text, r'(?m)^worked_total{service_name="iris-service",.*revision_name="iris-service-00001"} \d+$')
        self.assertRegex(text, r'(?m)^qpext_target_up{target="queue-proxy".*} 1$')
        # Knative has all of a Service's containers wait for the queue-proxy to drain.
        lost, of_all = self.lost_of(pod, "user-container")
        print(f"Knative {self.knative_release}, a container: {lost:.0f} counts lost before the application's own drain, {of_all:.0f} with it")
        self.assertLess(lost, PER_SECOND)

    def test_a_runtime_brings_the_sidecar_and_a_rollout_needs_nothing_spare(self):
        text = self.cluster.kubectl("kustomize", DEPLOY / "kserve-runtime").replace("sklearnserver:v0.19.0", f"sklearnserver:{self.kserve.version}")
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", given=text)
        pod = self.await_one()
        self.assertEqual(self.containers(pod), {"kserve-container", "qpext"})
        self.assertEqual(pod["metadata"]["annotations"]["prometheus.io/port"], "9088")
        served = r'(?m)^worked_total{service_name="iris-with-runtime",revision_name="isvc.iris-with-runtime-predictor"} \d+$'
        self.assertRegex(get(pod["status"]["podIP"]), served)

        patch = {"spec": {"predictor": {"annotations": {"example.com/changed": "yes"}}}}
        path = f"/apis/serving.kserve.io/v1beta1/namespaces/{self.namespace}/inferenceservices/iris-with-runtime"
        self.cluster.api("PATCH", path, patch, "application/merge-patch+json")
        most = 0

        def is_new():
            nonlocal most
            living = [each for each in self.cluster.pods(self.namespace) if "deletionTimestamp" not in each["metadata"]]
            most = max(most, len(living))
            return [each for each in living if "example.com/changed" in each["metadata"]["annotations"]]

        [new] = await_that("a new pod", is_new)
        self.assertEqual(most, 1)
        new = self.await_ready(new["metadata"]["name"])
        _, lost = self.lost_of(new, "kserve-container")
        print(f"KServe {self.kserve_release}, runtime: {lost:.0f} counts of a drain lost")
        self.assertLess(lost, PER_SECOND)

    def test_a_model_without_knative_gets_a_sidecar_that_outlives_it(self):
        self.cluster.inject()
        self.make_model("sklearn-iris", {"serving.kserve.io/deploymentMode": self.without_knative, "qpext.io/inject": "true"})
        pod = self.await_one()
        self.assertEqual(self.containers(pod), {"kserve-container"})
        self.assertEqual([each["name"] for each in pod["spec"]["initContainers"]], ["qpext", "storage-initializer"])
        text = get(pod["status"]["podIP"])
        self.assertRegex(text, r'(?m)^worked_total{service_name="sklearn-iris",revision_name="isvc.sklearn-iris-predictor"} \d+$')
        _, lost = self.lost_of(pod, "kserve-container")
        print(f"KServe {self.kserve_release}, {self.without_knative}: {lost:.0f} counts of a drain lost")
        self.assertLess(lost, PER_SECOND)


@on_a_node
class Older(Serving, Pods):
    knative_release, kserve_release, without_knative = "0.44", "0.15", "RawDeployment"

    def test_a_newer_word_is_taken_for_the_default(self):
        self.make_model("sklearn-iris", {"serving.kserve.io/deploymentMode": "Standard"})
        self.assertIn("queue-proxy", self.containers(self.await_one()))


@on_a_node
class Newer(Serving, Pods):
    knative_release, kserve_release, without_knative = "0.48", "0.19", "Standard"

    def test_a_model_that_is_annotated_for_knative_never_starts(self):
        self.make_model("annotated", {"serving.kserve.io/deploymentMode": "Knative"})
        self.make_model("plain", {})
        pod = self.await_one()
        self.assertEqual(pod["metadata"]["labels"]["serving.kserve.io/inferenceservice"], "plain")

    def test_a_model_is_given_the_time_to_end_what_it_generates(self):
        self.make_model("llama", {"serving.kserve.io/deploymentMode": "RawDeployment"})
        self.await_one()
        [command] = re.findall(r"^kubectl (patch .*)$", (DEPLOY / "autoscaling" / "keda" / "README.md").read_text(), re.M)
        self.cluster.kubectl(*shlex.split(command.replace("deploy/", f"{DEPLOY}/")), "-n", self.namespace)

        def has_it(pod):
            [model] = pod["spec"]["containers"]
            return pod["spec"]["terminationGracePeriodSeconds"] == 600 and "preStop" in model.get("lifecycle", {})

        await_that("a pod with a hook", lambda: any(map(has_it, self.cluster.pods(self.namespace))))

    def test_knatives_operator_takes_the_patch(self):
        define(self.cluster, files("knative-operator") / "operator.knative.dev_knativeservings.yaml")
        path = "/apis/operator.knative.dev/v1beta1/namespaces/knative-serving/knativeservings"
        self.cluster.api("POST", path, {
            "apiVersion": "operator.knative.dev/v1beta1", "kind": "KnativeServing", "metadata": {"name": "knative-serving"},
        })
        [command] = re.findall(r"^kubectl (patch knativeserving .*)$", (DEPLOY / "kserve" / "README.md").read_text(), re.M)
        self.cluster.kubectl(*shlex.split(command))
        config = self.cluster.api("GET", f"{path}/knative-serving")["spec"]["config"]
        image = re.search(r"queue-sidecar-image: (\S+)", (DEPLOY / "kserve" / "config-deployment.yaml").read_text())[1]
        self.assertEqual(config["deployment"], {"queue-sidecar-image": image})
        self.assertEqual(config["observability"], {"request-metrics-protocol": "prometheus"})


class LLMs:
    """The pods of an LLMInferenceService, which get their sidecars from the policy."""

    tls: bool

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(node=RealNode)
        cls.enterClassContext(cls.cluster)
        configuration = {"ingress": {"disableIstioVirtualHost": True, "disableIngressCreation": True, "enableLLMInferenceServiceTLS": cls.tls}}
        kserve = KServe(cls.cluster, "0.19", configuration)
        llms = LLMInferenceServices(cls.cluster, kserve)
        node = cls.cluster.node
        node.name_image("app:1", *llms.images)
        node.name_image("done:1", f"docker.io/{kserve.storage_initializer}")
        cls.cluster.inject()

    def make_service(self, **more):
        """Makes a service as the README says it is annotated, and gives its pods by their roles once they are ready."""
        asked = {"annotations": {"qpext.io/inject": "true"}}
        prefill = {"prefill": {**more["prefill"], **asked}} if "prefill" in more else {}
        self.cluster.api("POST", f"/apis/serving.kserve.io/v1alpha2/namespaces/{self.namespace}/llminferenceservices", {
            "apiVersion": "serving.kserve.io/v1alpha2",
            "kind": "LLMInferenceService",
            "metadata": {"name": "llama"},
            "spec": {"model": {"uri": "hf://facebook/opt-125m", "name": "opt"}, **asked, **more, **prefill},
        })
        count = 2 if prefill else 1

        def ready():
            names = [each["metadata"]["name"] for each in self.cluster.pods(self.namespace)]
            pods = [self.ready(name) for name in names]
            return pods if len(pods) == count and all(pods) else None

        return {pod["metadata"]["labels"]["llm-d.ai/role"]: pod for pod in await_that("the service's pods", ready)}

    def assert_served(self, pod, revision):
        text = get(pod["status"]["podIP"])
        self.assertRegex(text, rf'(?m)^worked_total{{service_name="llama",revision_name="{revision}".*}} \d+$')
        self.assertRegex(text, r'(?m)^qpext_target_up{target="main".*} 1$')
        self.assertNotRegex(text, r"(?m)^qpext_target_up.* 0$")

    def test_one_that_does_all(self):
        pods = self.make_service()
        self.assertEqual(set(pods), {"both"})
        self.assert_served(pods["both"], "llama-both")

    def test_one_with_prefill(self):
        pods = self.make_service(prefill={})
        self.assertEqual(set(pods), {"decode", "prefill"})
        for role, pod in pods.items():
            self.assert_served(pod, f"llama-{role}")


    def test_its_scheduler_is_asked_with_a_token(self):
        asked = {"annotations": {"qpext.io/inject": "true"}}
        self.cluster.api("POST", f"/apis/serving.kserve.io/v1alpha2/namespaces/{self.namespace}/llminferenceservices", {
            "apiVersion": "serving.kserve.io/v1alpha2",
            "kind": "LLMInferenceService",
            "metadata": {"name": "llama"},
            "spec": {"model": {"uri": "hf://facebook/opt-125m", "name": "opt"}, "router": {"scheduler": asked}},
        })

        def made():
            label = "app.kubernetes.io%2Fcomponent%3Dllminferenceservice-router-scheduler"
            return self.cluster.api("GET", f"{self.path()}?labelSelector={label}")["items"]

        [pod] = await_that("the scheduler's pod", made)
        [sidecar] = [each for each in pod["spec"]["initContainers"] if each["name"] == "qpext"]
        environment = {each["name"]: each.get("value", "") for each in sidecar["env"]}
        [target] = json.loads(environment["QPEXT_TARGETS"])
        self.assertEqual(target["url"], "http://localhost:9090/metrics")
        mounts = [mount["mountPath"] for mount in sidecar["volumeMounts"]]
        self.assertIn(str(pathlib.Path(target["bearer_token_file"]).parent), mounts)
        self.assertEqual((environment["SERVING_SERVICE"], environment["SERVING_REVISION"]), ("llama", "llama-scheduler"))
        # The README's commands, which name this account, give it what it needs.
        account = pod["spec"]["serviceAccountName"]
        self.assertEqual(account, "llama-epp-sa")
        commands = re.findall(r"^kubectl (create clusterrole.*)$", (DEPLOY / "inject" / "README.md").read_text(), re.M)
        for command in commands:
            self.cluster.kubectl(*shlex.split(command.replace("ml:", f"{self.namespace}:")))
        said = self.cluster.kubectl("auth", "can-i", "get", "/metrics", "--as", f"system:serviceaccount:{self.namespace}:{account}")
        self.assertEqual(said.strip(), "yes")


@on_a_node
class PlainLLMs(LLMs, Pods):
    tls = False


@on_a_node
class TLSLLMs(LLMs, Pods):
    tls = True


if __name__ == "__main__":
    unittest.main()
