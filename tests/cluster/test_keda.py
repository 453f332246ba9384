"""Autoscaling by KEDA: its operator scales a model from nothing, to many, and back, and never stops one that works."""

import signal
import time
import unittest

import prometheus
from cluster import MACHINE, ROOT, Cluster, application, await_that, has_condition
from parts import files, program
from test_adapter import MODEL

KIT = ROOT / "deploy" / "autoscaling" / "keda"
WINDOW_SECONDS = 10
COOLDOWN_SECONDS = 6

#: In a test nobody waits two minutes for a rate, or ten for an end.
FASTER = {
    "[2m]": f"[{WINDOW_SECONDS}s]",
    "offset 2m": f"offset {WINDOW_SECONDS}s",
    "cooldownPeriod: 600": f"cooldownPeriod: {COOLDOWN_SECONDS}\n  pollingInterval: 2",
    "initialCooldownPeriod: 600": f"initialCooldownPeriod: {COOLDOWN_SECONDS}",
}


class WithKeda(unittest.TestCase):
    #: What the gateway has counted before Prometheus starts.
    counted_before = 500

    def setUp(self):
        self.cluster = cluster = self.enterContext(Cluster())
        cluster.namespace("monitoring")
        cluster.namespace("keda")
        environment = prometheus.account(cluster)
        self.metrics, self.gateway = cluster.folder / "metrics", cluster.folder / "gateway"
        self.serve()
        self.count_at_the_gateway(self.counted_before)
        cluster.node.images["app:1"] = application(self.metrics)
        cluster.run("gateway", *application(self.gateway)(None), 8765)
        gateway = "  - job_name: gateway\n    scrape_interval: 1s\n    scrape_timeout: 1s\n    static_configs: [{targets: ['127.0.0.1:8765']}]\n"
        self.prometheus = prometheus.start(self, cluster, environment, (prometheus.KIT / "scrape.yaml").read_text() + gateway)
        cluster.inject()
        self.start_keda()

    def serve(self, waiting=0, running=0):
        self.metrics.write_text(
            f"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting {waiting}\n"
            f"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running {running}\n"
        )

    def count_at_the_gateway(self, count):
        labels = 'reporter="source",destination_service_name="llama-predictor",destination_service_namespace="default"'
        self.gateway.write_text(f"# TYPE istio_requests_total counter\nistio_requests_total{{{labels}}} {count}\n")

    def start_keda(self):
        cluster = self.cluster
        for crd in sorted(files("keda").iterdir()):
            if crd.suffix == ".yaml" and crd.name != "kustomization.yaml":
                cluster.kubectl("apply", "--server-side", "-f", crd)
        service = "keda-metrics-apiserver"
        cluster.make_certificate("keda", "/CN=keda", [f"DNS:{service}.keda.svc", "DNS:localhost", "IP:127.0.0.1"])
        certificates = cluster.folder / "keda-certificates"
        certificates.mkdir()
        for name, own in (("ca.crt", "ca.crt"), ("tls.crt", "keda.crt"), ("tls.key", "keda.key")):
            (certificates / name).write_bytes((cluster.folder / own).read_bytes())
        kubeconfig = cluster.folder / "admin.kubeconfig"
        environment = {
            "POD_NAMESPACE": "keda",
            "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda",
            "WATCH_NAMESPACE": "",
            "KUBECONFIG": str(kubeconfig),
        }
        cluster.run(
            "keda-operator",
            program("keda-operator"),
            "--metrics-bind-address=127.0.0.1:28080",
            "--health-probe-bind-address=127.0.0.1:28081",
            "--metrics-service-bind-address=127.0.0.1:29666",
            f"--cert-dir={certificates}",
            environment=environment,
        )
        cluster.run(
            "keda-metrics-server",
            program("keda-metrics-server"),
            f"--bind-address={MACHINE}",
            "--secure-port=28443",
            "--port=28082",
            f"--cert-dir={certificates}",
            f"--tls-cert-file={certificates / 'tls.crt'}",
            f"--tls-private-key-file={certificates / 'tls.key'}",
            f"--client-ca-file={cluster.folder / 'ca.crt'}",
            f"--requestheader-client-ca-file={cluster.folder / 'front-ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            f"--lister-kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--metrics-service-address=127.0.0.1:29666",
            environment=environment,
        )
        cluster.serve_outside("keda", service, "https", 28443)
        cluster.api("POST", "/apis/apiregistration.k8s.io/v1/apiservices", {
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"name": service, "namespace": "keda"},
            },
        })
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        reader = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "external-metrics-reader"}
        autoscaler = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
        cluster.api("POST", f"{rbac}/clusterroles", {
            "metadata": {"name": reader["name"]},
            "rules": [{"apiGroups": ["external.metrics.k8s.io"], "resources": ["*"], "verbs": ["*"]}],
        })
        cluster.api("POST", f"{rbac}/clusterrolebindings", {
            "metadata": {"name": reader["name"]}, "roleRef": reader, "subjects": [autoscaler],
        })

        def available():
            service = cluster.api("GET", "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io")
            return has_condition(service, "Available")

        await_that("KEDA's metrics", available)

    def model(self, replicas):
        deployment = {**MODEL, "spec": {**MODEL["spec"], "replicas": replicas}}
        self.cluster.api("POST", "/apis/apps/v1/namespaces/default/deployments", deployment)
        self.await_replicas("the model's pods", lambda count: count == replicas)

    def apply_the_kit(self):
        text = self.cluster.kubectl("kustomize", KIT)
        for slow, fast in FASTER.items():
            self.assertIn(slow, text)
            text = text.replace(f"  {slow}" if "ooldown" in slow else slow, f"  {fast}" if "ooldown" in slow else fast)
        self.cluster.kubectl("apply", "-f", "-", given=text)

    def replicas(self):
        status = self.cluster.api("GET", "/apis/apps/v1/namespaces/default/deployments/llama-predictor")["status"]
        return status.get("replicas", 0), status.get("readyReplicas", 0)

    def await_replicas(self, what, are_right):
        await_that(what, lambda: len(set(counts := self.replicas())) == 1 and are_right(counts[0]), patience=180)

    def assert_it_runs_on(self):
        """Longer than KEDA takes to stop one that it takes to be idle."""
        until = time.monotonic() + 4 * COOLDOWN_SECONDS
        while time.monotonic() < until:
            self.assertGreater(self.replicas()[0], 0, "it was stopped")
            time.sleep(0.5)


class Keda(WithKeda):
    def test_a_model_comes_from_nothing_and_goes_back_but_not_while_it_works(self):
        self.model(0)
        self.apply_the_kit()
        self.await_replicas("nothing", lambda count: count == 0)
        self.count_at_the_gateway(503)
        # What it generates is generated for a long time.
        self.serve(running=1)
        self.await_replicas("a pod, woken by the gateway", lambda count: count == 1)
        self.assert_it_runs_on()
        self.serve(waiting=20, running=1)
        self.await_replicas("more pods for what waits", lambda count: count > 2)
        self.serve(running=1)
        self.await_replicas("one pod, as nothing waits", lambda count: count == 1)
        self.assert_it_runs_on()
        self.serve()
        self.await_replicas("nothing, as nothing runs", lambda count: count == 0)

    def test_a_model_that_works_is_not_stopped_when_the_kit_is_applied(self):
        self.serve(running=1)
        self.model(1)
        self.apply_the_kit()
        self.assert_it_runs_on()

    def test_a_model_that_works_outlives_a_prometheus_that_hangs(self):
        self.serve(running=1)
        self.model(1)
        self.apply_the_kit()
        self.assert_it_runs_on()
        self.prometheus.send_signal(signal.SIGSTOP)
        try:
            self.assert_it_runs_on()
            self.assert_it_runs_on()
        finally:
            self.prometheus.send_signal(signal.SIGCONT)


class FreshPrometheus(WithKeda):
    """One that sees for the first time what a gateway has counted for days."""

    counted_before = 500_000

    def test_a_prometheus_that_starts_anew_wakes_one_pod_and_no_more(self):
        self.model(0)
        self.apply_the_kit()
        self.await_replicas("a pod for what was counted before", lambda count: count == 1)

        def none_again(count):
            self.assertLessEqual(count, 1)
            return count == 0

        self.await_replicas("nothing, as nothing comes", none_again)


if __name__ == "__main__":
    unittest.main()
