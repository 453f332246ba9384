"""Pods of a real node: what the kubelet does to a sidecar and to the application beside it, and what is counted meanwhile."""

import re
import subprocess
import threading
import time
import unittest
import urllib.error
import urllib.request

import prometheus
from cluster import ROOT, Cluster, Refused, await_that, has_condition
from node import RealNode, on_a_node

#: How often the application counts, and for how long it drains.
PER_SECOND = 20
DRAIN_SECONDS = 5
SCRAPE_SECONDS = 2

ANNOTATIONS = {"qpext.io/inject": "true", "prometheus.io/port": "8080"}


def pod(name, annotations=None, labels=None, resources=None, **environment):
    """A pod of the application's."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {**ANNOTATIONS, **(annotations or {})}, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "terminationGracePeriodSeconds": 30,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "app",
                    "image": "app:1",
                    "env": [{"name": key, "value": str(value)} for key, value in environment.items()],
                    "resources": resources or {},
                }
            ],
        },
    }


def get(address, path="/metrics", port=9088):
    with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def sample(text, name):
    """The value of the one sample of this name."""
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M)
    return float(found[1]) if found else None


class Scraper(threading.Thread):
    """Scrapes a pod without a pause, until its address is gone: what came last is kept."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address
        self.last = None
        self.ends = threading.Event()
        self.start()

    def run(self):
        while not self.ends.is_set():
            try:
                value = sample(get(self.address), "worked_total")
            except urllib.error.HTTPError:
                continue
            except OSError:
                # Nobody is there yet, or any more.
                time.sleep(0.02)
                continue
            if value is not None:
                self.last = value


class Pods(unittest.TestCase):
    """Tests with a namespace each, of whose pods nothing is left. Which cluster that is in is said by who inherits this."""

    count = 0

    def setUp(self):
        Pods.count += 1
        self.namespace = self.cluster.namespace(f"pods-{Pods.count}")

        self.addCleanup(self.delete_all)

    def delete_all(self):
        """Nothing is left to take the machine's time from the next test."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")
        self.cluster.kubectl("delete", "pods", "--all", "-n", self.namespace, "--grace-period=1")

    def path(self, kind="pods"):
        return f"/api/v1/namespaces/{self.namespace}/{kind}"

    def make(self, body):
        """Makes a pod, and gives it as soon as it is ready."""
        self.cluster.api("POST", self.path(), body)
        return self.await_ready(body["metadata"]["name"])

    def await_ready(self, name):
        return await_that(f"a pod {name} that is ready", lambda: self.ready(name))

    def ready(self, name):
        found = self.cluster.api("GET", f"{self.path()}/{name}")
        return found if has_condition(found, "Ready") else None

    def statuses(self, name):
        status = self.cluster.api("GET", f"{self.path()}/{name}")["status"]
        return {each["name"]: each for each in status.get("initContainerStatuses", []) + status.get("containerStatuses", [])}

    def follow(self, name, container):
        """Gives what waits for a container's end, and gives how far it had come when it was asked to end, and then."""
        log = self.cluster.folder / f"{self.namespace}-{name}.log"
        with log.open("wb") as file:
            follower = subprocess.Popen(
                ["kubectl", "logs", "--follow", "-n", self.namespace, name, "-c", container],
                env=self.cluster.kubectl_environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
            )
        self.addCleanup(self.cluster.end, follower)

        def end():
            follower.wait(timeout=120)
            said = log.read_text()
            asked = re.search(r"asked to end at (\d+)", said)
            return asked and int(asked[1]), int(re.search(r"counted (\d+)", said)[1])

        return end

    def delete(self, name):
        with_grace = self.cluster.api("DELETE", f"{self.path()}/{name}")
        self.assertTrue(with_grace["metadata"].get("deletionTimestamp"))

    def await_gone(self, name):
        def is_gone():
            try:
                self.cluster.api("GET", f"{self.path()}/{name}")
            except Refused as refused:
                return refused.status == 404
            return False

        await_that(f"the end of {name}", is_gone)

    def lost_of(self, pod, container):
        """Deletes a pod, and gives how many of its counts nobody could have scraped: of those before it was asked to end, and of all."""
        name = pod["metadata"]["name"]
        scraper = Scraper(pod["status"]["podIP"])
        end = self.follow(name, container)
        await_that("a count", lambda: scraper.last)
        self.delete(name)
        asked, counted = end()
        scraper.ends.set()
        scraper.join()
        return max(asked - scraper.last, 0), counted - scraper.last


@on_a_node
class Node(Pods):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(node=RealNode)
        cls.enterClassContext(cls.cluster)
        cls.cluster.inject()

    def test_a_native_sidecar_outlives_the_drain_and_an_ordinary_one_does_not(self):
        _, native = self.lost_of(self.make(pod("native")), "app")
        _, ordinary = self.lost_of(self.make(pod("ordinary", {"qpext.io/native": "false"})), "app")
        drained = DRAIN_SECONDS * PER_SECOND
        print(f"of {drained} counts of a drain lost to a scraper without pause: native {native:.0f}, ordinary {ordinary:.0f}")
        self.assertLess(native, PER_SECOND)
        self.assertGreater(ordinary, drained * 0.8)

    def test_the_kits_pod_outlives_the_drain(self):
        self.cluster.node.name_image("app:1", "example.com/sklearn-iris:1.0.0")
        self.cluster.kubectl("apply", "-n", self.namespace, "-k", ROOT / "deploy" / "pod")
        _, lost = self.lost_of(self.await_ready("iris-pod"), "kserve-container")
        self.assertLess(lost, PER_SECOND)

    def test_prometheus_holds_what_was_counted_but_for_an_interval(self):
        self.cluster.namespace("monitoring")
        environment = prometheus.account(self.cluster)
        prometheus.start(self, self.cluster, environment, (prometheus.KIT / "scrape.yaml").read_text(), SCRAPE_SECONDS)
        pods = {"native": {}, "ordinary": {"qpext.io/native": "false"}}
        ends = {}
        for name, annotations in pods.items():
            self.make(pod(name, annotations, DRAIN=f"{4 * SCRAPE_SECONDS}s"))
            ends[name] = self.follow(name, "app")
        query = f'max_over_time(worked_total{{namespace="{self.namespace}"}}[5m])'

        def held():
            return {each["metric"]["pod"]: float(each["value"][1]) for each in prometheus.api("query", query=query)["result"]}

        await_that("scrapes of both", lambda: len(held()) == len(pods))
        for name in pods:
            self.delete(name)
        counted = {name: end()[1] for name, end in ends.items()}
        for name in pods:
            self.await_gone(name)
        lost = {name: counted[name] - count for name, count in held().items()}
        print(f"of {counted['native']} counts lost to Prometheus at {SCRAPE_SECONDS} s: {lost}")
        self.assertLessEqual(lost["native"], 2 * SCRAPE_SECONDS * PER_SECOND)
        self.assertGreater(lost["ordinary"], lost["native"])

    def job(self, name, annotations=None):
        """Makes a Job whose pod ends by itself after three seconds, and gives the pod's name once there is one."""
        template = pod(name, annotations, END="3s")
        template["spec"]["restartPolicy"] = "Never"
        job = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {key: template[key] for key in ("metadata", "spec")}}}
        self.cluster.api("POST", f"/apis/batch/v1/namespaces/{self.namespace}/jobs", job)

        def made():
            pods = self.cluster.api("GET", f"{self.path()}?labelSelector=job-name%3D{name}")["items"]
            return pods[0]["metadata"]["name"] if pods else None

        return await_that("a Job's pod", made)

    def await_job(self, name):
        def has_succeeded():
            return self.cluster.api("GET", f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{name}")["status"].get("succeeded")

        await_that("a Job that has ended", has_succeeded)

    def test_a_job_ends_and_its_last_count_is_served(self):
        name = self.job("job")
        address = await_that("an address", lambda: self.cluster.api("GET", f"{self.path()}/{name}")["status"].get("podIP"))
        scraper = Scraper(address)
        await_that("a count", lambda: scraper.last)
        end = self.follow(name, "app")
        _, counted = end()
        self.await_job("job")
        scraper.ends.set()
        scraper.join()
        self.assertLess(counted - scraper.last, PER_SECOND)

    def test_a_sidecar_that_refuses_its_settings_keeps_no_job_from_running(self):
        name = self.job("refused", {"qpext.io/targets": "no targets"})
        self.await_job("refused")
        sidecar = self.statuses(name)["qpext"]
        states = [sidecar["state"], sidecar["lastState"]]
        self.assertIn(64, [state.get("terminated", {}).get("exitCode") for state in states])

    def test_a_sidecar_without_an_image_keeps_native_ones_from_starting_and_no_others(self):
        policy = self.cluster.kubectl("kustomize", ROOT / "deploy" / "inject")
        self.addCleanup(self.cluster.kubectl, "apply", "-f", "-", given=policy)
        missing = "qpext:missing"
        self.cluster.kubectl("apply", "-f", "-", given=policy.replace("qpext:0.1.0", missing))
        probe = pod("probe")

        def is_in_force():
            made = self.cluster.api("POST", f"{self.path()}?dryRun=All", probe)
            return made["spec"]["initContainers"][0]["image"] == missing

        await_that("a policy with another image", is_in_force)
        for name, annotations in (("native", {}), ("ordinary", {"qpext.io/native": "false"})):
            self.cluster.api("POST", self.path(), pod(name, annotations))

        def waits(name):
            reasons = ("ErrImagePull", "ImagePullBackOff")
            return self.statuses(name).get("qpext", {}).get("state", {}).get("waiting", {}).get("reason") in reasons

        for name in ("native", "ordinary"):
            await_that("a sidecar without an image", lambda name=name: waits(name))
        await_that("the application beside it", lambda: "running" in self.statuses("ordinary")["app"]["state"])
        self.assertNotIn("running", self.statuses("native")["app"]["state"])

    def test_an_application_that_is_killed_for_its_memory_costs_its_own_samples_only(self):
        ready = self.make(pod("large", resources={"limits": {"memory": "64Mi"}}, HOLD=256, DRAIN="0s"))
        address = ready["status"]["podIP"]
        await_that("a count", lambda: sample(get(address), "worked_total"))
        try:
            get(address, "/hold", port=8080)
        except OSError:
            pass
        restarted = await_that("another run of the application", lambda: self.statuses("large")["app"]["restartCount"])
        self.assertEqual(restarted, 1)
        ended = await_that("why it ended", lambda: self.statuses("large")["app"]["lastState"].get("terminated"))
        self.assertEqual(ended["reason"], "OOMKilled")
        await_that("a count again", lambda: sample(get(address), "worked_total"))
        self.assertEqual(self.statuses("large")["qpext"]["restartCount"], 0)

    def test_large_bodies_take_no_memory(self):
        ready = self.make(pod("bodies", BODY=100_000_000, DRAIN="0s"))
        address = ready["status"]["podIP"]
        await_that("the application", lambda: get(address, "/", port=8080) == "")
        for _ in range(5):
            with urllib.request.urlopen(f"http://{address}:9088/metrics", timeout=60) as answer:
                size = sum(map(len, iter(lambda: answer.read(1 << 20), b"")))
            self.assertGreater(size, 100_000_000)
        most = self.cluster.node.most_memory(ready, "qpext")
        print(f"the most that the sidecar's cgroup held under bodies of 100 MB: {most / 1e6:.1f} MB")
        self.assertLess(most, 24_000_000)
        self.assertEqual(self.statuses("bodies")["qpext"]["restartCount"], 0)

    def test_a_busy_node_costs_no_sidecar_its_life(self):
        ready = self.make(pod("starved", DRAIN="0s"))
        for number in range(2):
            self.make(pod(f"busy-{number}", {"qpext.io/inject": "false"}, resources={"requests": {"cpu": "300m"}}, BURN=16, DRAIN="0s"))
        address = ready["status"]["podIP"]
        # Three probes.
        until = time.monotonic() + 35
        slowest = 0
        while time.monotonic() < until:
            began = time.monotonic()
            get(address, "/healthz")
            slowest = max(slowest, time.monotonic() - began)
        print(f"the slowest /healthz beside 32 busy threads: {slowest * 1000:.0f} ms")
        self.assertEqual(self.statuses("starved")["qpext"]["restartCount"], 0)
        events = self.cluster.api("GET", self.path("events"))["items"]
        of_it = [each["message"] for each in events if each["reason"] == "Unhealthy" and each["involvedObject"]["name"] == "starved"]
        self.assertEqual(of_it, [])


if __name__ == "__main__":
    unittest.main()
