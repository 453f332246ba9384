"""A real node: kubelet, scheduler and containerd, whose pods are real ones of real images.

What the two write to their usual folders, they write to folders of the cluster's: it must be root, in a mount namespace of its own.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import unittest

from cluster import MACHINE, PATIENCE_SECONDS, Refused, await_that, has_condition
from parts import NODE, debian, program

CGROUPS = pathlib.Path("/sys/fs/cgroup")
IMAGES = pathlib.Path(__file__).parent.parent.parent / "target" / "cluster" / "images"

CONTAINERD = """\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:1"
# To be killed last takes a capability that a node in a namespace has not.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{runc}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{configuration}"
"""


#: For tests of a node, where this machine lets one run.
on_a_node = unittest.skipUnless(
    os.geteuid() == 0 and (CGROUPS / "memory").is_dir() and os.access(CGROUPS / "memory", os.W_OK),
    "a real node takes root, and one hierarchy of cgroups for each controller (v1)",
)


class RealNode(contextlib.ExitStack):
    """The node, from its start to the end of the block."""

    NAME = "node"

    def __init__(self, cluster):
        super().__init__()
        self.cluster = cluster
        self.socket = "/run/containerd/containerd.sock"

    def __enter__(self):
        super().__enter__()
        self.folder = self.cluster.folder / "node"
        self.folder.mkdir()
        self.cgroup = self.cluster.folder.name
        try:
            self.make_folders()
            self.make_cgroups()
            self.start_containerd()
            self.import_images()
            self.start_kubelet()
            self.start_scheduler()
            await_that("a node that is ready", self.is_ready)
        except BaseException:
            self.close()
            raise
        return self

    # The start.

    def make_folders(self):
        for path in ("/var/lib", "/var/log"):
            own = self.folder / path.lstrip("/")
            own.mkdir(parents=True)
            subprocess.run(["mount", "--bind", own, path], check=True)
            self.callback(subprocess.run, ["umount", "--lazy", path], check=True)

    def controllers(self):
        """The hierarchies of cgroups, each at one of its names."""
        return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]

    def make_cgroups(self):
        self.callback(self.remove_cgroups)
        for controller in self.controllers():
            own = controller / self.cgroup
            own.mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (own / name).write_text((controller / name).read_text())

    def processes(self):
        """Those of all containers."""
        for path in (CGROUPS / "pids" / self.cgroup).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, path.read_text().split())

    def remove_cgroups(self):
        def are_empty():
            for process in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            for controller in self.controllers():
                own = controller / self.cgroup
                for path in [*sorted(own.rglob("*/"), reverse=True), own]:
                    if path.is_dir():
                        path.rmdir()
            return True

        await_that("cgroups without processes", are_empty, patience=30)

    def start_containerd(self):
        parts = debian(*NODE)
        configuration = self.folder / "cni"
        configuration.mkdir()
        (configuration / "10-pods.conflist").write_text(json.dumps({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": "10.244.0.0/16"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                        "dataDir": "/run/cni",
                    },
                }
            ],
        }))
        toml = self.folder / "containerd.toml"
        toml.write_text(CONTAINERD.format(
            socket=self.socket,
            runc=parts / "usr/sbin/runc",
            plugins=parts / "usr/lib/cni",
            configuration=configuration,
        ))
        self.programs = parts / "usr/bin"
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}"}
        self.callback(self.end_shims)
        self.cluster.run("containerd", self.programs / "containerd", "--config", toml, environment=environment, until=self)
        await_that("containerd", lambda: self.ctr("version"))

    def end_shims(self):
        """They outlive containerd. Nothing but this node has some in this namespace of processes."""
        for path in pathlib.Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if path.read_text().startswith("containerd-shim"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        # Deepest first.
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for path in reversed(mounts):
            if path.startswith(("/run/containerd", "/run/netns", "/var/lib/containerd", "/var/lib/kubelet")):
                subprocess.run(["umount", "--lazy", path], check=False)

    def ctr(self, *words):
        command = [self.programs / "ctr", "--address", self.socket, "--namespace", "k8s.io", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        if done.returncode != 0:
            raise OSError(f"{words}: {done.stderr}")
        return done.stdout or "nothing"

    def import_images(self):
        for archive in sorted(IMAGES.glob("*.tar")):
            self.ctr("images", "import", "--snapshotter", "native", archive)

    def name_image(self, image, *others):
        """Has an image known by other names, too."""
        for other in others:
            self.ctr("images", "tag", f"docker.io/library/{image}", other)

    def start_kubelet(self):
        cluster, folder = self.cluster, self.cluster.folder
        cluster.make_certificate("kubelet", f"/O=system:nodes/CN=system:node:{self.NAME}")
        cluster.make_certificate("kubelet-server", f"/CN={self.NAME}", [f"IP:{MACHINE}"])
        cluster.make_kubeconfig("kubelet")
        configuration = self.folder / "kubelet.json"
        configuration.write_text(json.dumps({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": MACHINE,
            "authentication": {"x509": {"clientCAFile": str(folder / "ca.crt")}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(folder / "kubelet-server.crt"),
            "tlsPrivateKeyFile": str(folder / "kubelet-server.key"),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "resolvConf": "",
            "makeIPTablesUtilChains": False,
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "kubeAPIQPS": 100,
            "registryPullQPS": 0,
        }))
        cluster.run(
            "kubelet",
            program("kubelet"),
            f"--config={configuration}",
            f"--kubeconfig={folder / 'kubelet.kubeconfig'}",
            f"--hostname-override={self.NAME}",
            f"--node-ip={MACHINE}",
            until=self,
        )
        self.callback(self.delete_pods)

    def start_scheduler(self):
        cluster = self.cluster
        cluster.make_certificate("scheduler", "/CN=system:kube-scheduler")
        cluster.make_kubeconfig("scheduler")
        kubeconfig = cluster.folder / "scheduler.kubeconfig"
        cluster.run(
            "kube-scheduler",
            program("kube-scheduler"),
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            until=self,
        )

    def is_ready(self):
        return has_condition(self.cluster.api("GET", f"/api/v1/nodes/{self.NAME}"), "Ready")

    def delete_pods(self):
        """What the containers are is known to the kubelet: it is asked to end them while it is there."""
        with contextlib.suppress(OSError, Refused, TimeoutError):
            self.cluster.kubectl("delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--wait=false")
            await_that("a node without pods", lambda: not list(self.processes()), patience=30)

    # What is seen of containers on the node.

    def container(self, pod, name):
        """The identifier of a pod's container that runs."""
        statuses = pod["status"].get("containerStatuses", []) + pod["status"].get("initContainerStatuses", [])
        [status] = [status for status in statuses if status["name"] == name]
        return status["containerID"].removeprefix("containerd://")

    def cgroup_of(self, controller, pod, name):
        [path] = (CGROUPS / controller / self.cgroup).rglob(self.container(pod, name))
        return path

    def most_memory(self, pod, name):
        """The most memory that a container's cgroup has held, in bytes, what the kernel holds for it included."""
        return int((self.cgroup_of("memory", pod, name) / "memory.max_usage_in_bytes").read_text())

    def pids(self, pod, name):
        return [int(line) for line in (self.cgroup_of("pids", pod, name) / "cgroup.procs").read_text().split()]
