"""A real control plane: etcd, the API server and the controllers, without a node.

It is to be started in namespaces of its own (`scripts/test-cluster` makes them), in which nothing else runs: 10.244.0.1 is the
machine, pods are at 10.244.0.0/16, and all programs end with the namespace.
"""

import contextlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from parts import program

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SIDECAR = ROOT / "target" / "debug" / "qpext"

#: Where the programs of the control plane are, to pods.
MACHINE = "10.244.0.1"
API = f"https://{MACHINE}:6443"

#: Where a program finds its ServiceAccount, and the API server.
ACCOUNT_FOLDER = pathlib.Path("/run/secrets/kubernetes.io/serviceaccount")
IN_A_POD = {"KUBERNETES_SERVICE_HOST": MACHINE, "KUBERNETES_SERVICE_PORT": "6443"}

#: How long a program may take to do what it must: long, because the machine may be slow.
PATIENCE_SECONDS = 120
#: How long to wait before looking again, where there is no event to wait for.
POLL_SECONDS = 0.1


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def application(metrics):
    """What runs of the image of an application that serves this file."""
    return lambda _: [sys.executable, HERE / "played_app.py", metrics]


class Refused(Exception):
    """The API server refused a request: its status, and what it says."""

    def __init__(self, status, message):
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


def has_condition(thing, kind):
    """Whether a condition of an object's status is true, as far as it has one."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def await_that(what, condition, patience=PATIENCE_SECONDS):
    """The first thing that `condition` gives and that is true; what fails or is refused meanwhile counts as nothing."""
    deadline = time.monotonic() + patience
    while True:
        error = None
        try:
            if result := condition():
                return result
        except (OSError, Refused) as failure:
            error = failure
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {patience} s: {error}")
        time.sleep(POLL_SECONDS)


class Cluster(contextlib.ExitStack):
    """A control plane, from its start to the end of the block."""

    def __init__(self, runtime_config=(), node=None):
        super().__init__()
        self.runtime_config = runtime_config
        # The kind of its node: one that is played, unless said.
        self.node = (node or PlayedNode)(self)

    def __enter__(self):
        super().__enter__()
        try:
            self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="cluster.")))
            self.make_network()
            self.make_certificates()
            self.start_etcd()
            self.start_api_server()
            self.start_controllers()
            self.enter_context(self.node)
        except BaseException:
            self.close()
            raise
        return self

    # Programs.

    def run(self, name, *command, environment=None, until=None):
        """A program that runs until the end of the block, or of another. What it says is in the folder, in a file of its name."""
        log = self.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [str(word) for word in command],
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        (until or self).callback(self.end, process)
        return process

    def end(self, process):
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # The start.

    def make_network(self):
        # Another cluster was there before, in the same namespaces.
        if subprocess.run(["ip", "link", "show", "cni0"], capture_output=True).returncode == 0:
            return
        ip("link", "set", "lo", "up")
        ip("link", "add", "cni0", "type", "bridge")
        ip("address", "add", f"{MACHINE}/16", "dev", "cni0")
        ip("link", "set", "cni0", "up")
        ip("route", "add", "local", "10.96.0.0/16", "dev", "lo")
        # For the namespaces of pods, and their ServiceAccounts.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        ACCOUNT_FOLDER.mkdir(parents=True)
        hosts = self.folder / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{MACHINE} kubernetes.default.svc prometheus.monitoring.svc\n")
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, cwd=self.folder, capture_output=True)

    def make_authority(self, name):
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self.openssl("req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-days", "1", "-out", f"{name}.crt")

    def make_certificate(self, name, subject, names=(), authority="ca"):
        """A certificate for servers of these names and for clients, and its key."""
        self.openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", subject, "-out", f"{name}.csr")
        lines = ["extendedKeyUsage=serverAuth,clientAuth"]
        if names:
            lines.append("subjectAltName=" + ",".join(names))
        (self.folder / f"{name}.ext").write_text("\n".join(lines) + "\n")
        self.openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial"),
            *("-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )

    def make_certificates(self):
        self.make_authority("ca")
        self.make_authority("front-ca")
        names = ["DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:localhost"]
        self.make_certificate("server", "/CN=kube-apiserver", [*names, f"IP:{MACHINE}", "IP:127.0.0.1", "IP:10.96.0.1"])
        self.make_certificate("admin", "/O=system:masters/CN=admin")
        self.make_certificate("controllers", "/CN=system:kube-controller-manager")
        self.make_certificate("front", "/CN=front-proxy", authority="front-ca")
        self.openssl("genrsa", "-out", "sa.key", "2048")
        self.openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
        for name in ("admin", "controllers"):
            self.make_kubeconfig(name)
        self.context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        self.context.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")

    def make_kubeconfig(self, name):
        path = self.folder
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": API, "certificate-authority": str(path / "ca.crt")}}],
            "users": [
                {
                    "name": name,
                    "user": {"client-certificate": str(path / f"{name}.crt"), "client-key": str(path / f"{name}.key")},
                }
            ],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": name}}],
            "current-context": "c",
        }
        (path / f"{name}.kubeconfig").write_text(json.dumps(configuration))

    def start_etcd(self):
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self.run(
            "etcd",
            program("etcd"),
            "--name=e",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=e={peer}",
            "--unsafe-no-fsync",
        )

    def start_api_server(self):
        file = self.folder
        self.run(
            "kube-apiserver",
            program("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            "--bind-address=0.0.0.0",
            f"--advertise-address={MACHINE}",
            "--secure-port=6443",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={file / 'ca.crt'}",
            f"--tls-cert-file={file / 'server.crt'}",
            f"--tls-private-key-file={file / 'server.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={file / 'sa.pub'}",
            f"--service-account-signing-key-file={file / 'sa.key'}",
            f"--requestheader-client-ca-file={file / 'front-ca.crt'}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={file / 'front.crt'}",
            f"--proxy-client-key-file={file / 'front.key'}",
            f"--kubelet-client-certificate={file / 'admin.crt'}",
            f"--kubelet-client-key={file / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--enable-aggregator-routing",
            "--allow-privileged",
            *([f"--runtime-config={','.join(self.runtime_config)}"] if self.runtime_config else []),
        )
        await_that("an API server that is ready", lambda: self.raw("GET", "/readyz") == b"ok")

    def start_controllers(self):
        file = self.folder
        kubeconfig = file / "controllers.kubeconfig"
        self.run(
            "kube-controller-manager",
            program("kube-controller-manager"),
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={file / 'sa.key'}",
            f"--root-ca-file={file / 'ca.crt'}",
            "--horizontal-pod-autoscaler-sync-period=2s",
            "--horizontal-pod-autoscaler-downscale-stabilization=5s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=0s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=0s",
        )
        self.await_namespace("default")

    # The API.

    def raw(self, method, path, body=None, content_type="application/json"):
        """The body of the answer to a request of the administrator's."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(API + path, data=data, method=method, headers={"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS, context=self.context) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            with contextlib.suppress(ValueError, KeyError, TypeError):
                said = json.loads(said)["message"]
            raise Refused(error.code, said) from None

    def api(self, method, path, body=None, content_type="application/json"):
        return json.loads(self.raw(method, path, body, content_type))

    @property
    def kubectl_environment(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(self.folder / "admin.kubeconfig")}

    def kubectl(self, *words, given=None):
        """What kubectl says on standard output."""
        result = subprocess.run(
            ["kubectl", *(str(word) for word in words)],
            env=self.kubectl_environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        if result.returncode != 0:
            raise Refused(result.returncode, result.stderr)
        return result.stdout

    def serve_outside(self, namespace, name, port_name, port):
        """Has a Service lead to a program outside of pods: nothing selects its address."""
        self.api("POST", f"/api/v1/namespaces/{namespace}/services", {
            "metadata": {"name": name}, "spec": {"ports": [{"name": port_name, "port": 443, "targetPort": port}]},
        })
        self.api("POST", f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [MACHINE]}],
            "ports": [{"name": port_name, "port": port}],
        })

    def await_namespace(self, name):
        """Returns when pods can be made in a namespace: it has its ServiceAccount."""
        path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        await_that(f"a ServiceAccount in {name}", lambda: self.api("GET", path))

    def namespace(self, name):
        """A new namespace, in which pods can be made."""
        self.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.await_namespace(name)
        return name

    def account(self, namespace, name, rules):
        """Makes a ServiceAccount that may do this everywhere, and gives a program the environment of its pods."""
        account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        self.api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        self.api("POST", f"{rbac}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        self.api("POST", f"{rbac}/clusterrolebindings", {"metadata": {"name": name}, "roleRef": role, "subjects": [account]})
        self.write_account(ACCOUNT_FOLDER, namespace, name)
        return IN_A_POD

    def write_account(self, folder, namespace, name):
        """Writes what a ServiceAccount is told by, as a pod finds it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        token = self.api("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        (folder / "token").write_text(token)
        (folder / "namespace").write_text(namespace)
        (folder / "ca.crt").write_bytes((self.folder / "ca.crt").read_bytes())

    def inject(self, kit="deploy/inject"):
        """Applies the policy by the command that its README has. It is in force a moment later: until then, pods are made without."""
        self.kubectl("apply", "-k", ROOT / kit)
        asked = {"name": "it", "annotations": {"qpext.io/inject": "true", "prometheus.io/port": "8000"}}
        pod = {"metadata": asked, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
        await_that(
            "a policy that is in force",
            lambda: "initContainers" in self.api("POST", "/api/v1/namespaces/default/pods?dryRun=All", pod)["spec"],
        )

    def pods(self, namespace=None):
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        return self.api("GET", path)["items"]


class PlayedNode:
    """A scheduler and a kubelet: pods are bound to it and become ready, and what is to be deleted goes.

    The containers whose images are known run, in a network namespace for each pod: `localhost` is the pod's own.
    """

    NAME = "node"
    LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    #: A node that does not renew its lease within 40 seconds is not ready, and neither are its pods.
    RENEWAL_SECONDS = 10

    def __init__(self, cluster):
        self.cluster = cluster
        # What runs of an image: the command, of the container.
        self.images = {"qpext:0.1.0": lambda container: [SIDECAR]}
        self.sandboxes = {}
        self.has_ended = threading.Event()

    def __enter__(self):
        api = self.cluster.api
        ready = {"type": "Ready", "status": "True", "reason": "Played", "message": ""}
        api("POST", "/api/v1/nodes", {"metadata": {"name": self.NAME}})
        status = {"status": {"conditions": [ready], "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"}}}
        api("PATCH", f"/api/v1/nodes/{self.NAME}/status", status, "application/merge-patch+json")
        await_that("a namespace for leases", lambda: api("GET", "/api/v1/namespaces/kube-node-lease"))
        api("POST", self.LEASES, {"metadata": {"name": self.NAME}, "spec": self.lease()})
        self.renewed = time.monotonic()
        self.thread = threading.Thread(target=self.play, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.has_ended.set()
        self.thread.join()
        for sandbox in self.sandboxes.values():
            sandbox.close()

    def lease(self):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        return {"holderIdentity": self.NAME, "leaseDurationSeconds": 40, "renewTime": now}

    def play(self):
        while not self.has_ended.wait(POLL_SECONDS):
            with contextlib.suppress(OSError, Refused):
                if time.monotonic() - self.renewed > self.RENEWAL_SECONDS:
                    path = f"{self.LEASES}/{self.NAME}"
                    self.cluster.api("PATCH", path, {"spec": self.lease()}, "application/merge-patch+json")
                    self.renewed = time.monotonic()
                for pod in self.cluster.pods():
                    # Others may change it meanwhile: it is looked at again.
                    with contextlib.suppress(Refused):
                        self.attend_to(pod)

    def attend_to(self, pod):
        metadata, api = pod["metadata"], self.cluster.api
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            if sandbox := self.sandboxes.pop(metadata["uid"], None):
                sandbox.close()
            api("DELETE", path, {"gracePeriodSeconds": 0})
        elif "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": self.NAME}
            api("POST", f"{path}/binding", {"metadata": {"name": metadata["name"]}, "target": target})
        elif "conditions" not in pod["status"] or "podIP" not in pod["status"]:
            if metadata["uid"] not in self.sandboxes:
                self.sandboxes[metadata["uid"]] = Sandbox(self, pod)
            api("PATCH", f"{path}/status", {"status": self.running(pod)}, "application/merge-patch+json")

    def running(self, pod):
        """The status of a pod that runs."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        spec = pod["spec"]

        def of(container, state):
            return {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": state,
            }

        runs = {"running": {"startedAt": now}}
        ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        inits = spec.get("initContainers", [])
        conditions = ("Initialized", "PodScheduled", "ContainersReady", "Ready")
        address = self.sandboxes[pod["metadata"]["uid"]].address
        return {
            "phase": "Running",
            "startTime": now,
            "hostIP": MACHINE,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in conditions],
            "containerStatuses": [of(container, runs) for container in spec["containers"]],
            "initContainerStatuses": [
                of(container, runs if container.get("restartPolicy") == "Always" else ended) for container in inits
            ],
        }


class Sandbox(contextlib.ExitStack):
    """A pod's network, and the programs that run in it."""

    count = 0

    def __init__(self, node, pod):
        super().__init__()
        self.cluster = node.cluster
        self.pod = pod
        Sandbox.count += 1
        number = 256 + Sandbox.count
        self.address = f"10.244.{number // 256}.{number % 256}"
        containers = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        #: The programs that run, by their containers.
        self.processes = {}
        known = [container for container in containers if container["image"] in node.images]
        if known:
            self.name = f"pod-{Sandbox.count}"
            self.make_network()
            self.folder = self.cluster.folder / self.name
            self.folder.mkdir()
            spec, namespace = pod["spec"], pod["metadata"]["namespace"]
            self.cluster.write_account(self.folder, namespace, spec.get("serviceAccountName", "default"))
            for container in known:
                self.run(container, node.images[container["image"]](container))

    def make_network(self):
        link = f"veth{Sandbox.count}"
        ip("netns", "add", self.name)
        self.callback(ip, "netns", "delete", self.name)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", link, "master", "cni0", "up")
        for words in (
            ("address", "add", f"{self.address}/16", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", MACHINE),
        ):
            ip("-netns", self.name, *words)

    def volume(self, name):
        """The folder of a volume of the pod, of a ConfigMap or an empty one."""
        [volume] = [volume for volume in self.pod["spec"].get("volumes", []) if volume["name"] == name]
        folder = self.folder / "volumes" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            if "configMap" in volume:
                namespace = self.pod["metadata"]["namespace"]
                path = f"/api/v1/namespaces/{namespace}/configmaps/{volume['configMap']['name']}"
                for key, text in self.cluster.api("GET", path)["data"].items():
                    (folder / key).write_text(text)
        return folder

    def run(self, container, command):
        # Volumes are where they are made, and not in the machine's folders.
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        mounts = {path: str(self.volume(name)) for path, name in mounts.items() if not path.startswith("/var/run/secrets")}

        def in_volumes(word):
            paths = "|".join(map(re.escape, mounts)) or "(?!)"
            return re.sub(f"(?<![\\w/])({paths})(?=/|$)", lambda path: mounts[path[1]], word)

        words = [*map(str, command), *map(in_volumes, container.get("args", []))]
        script = f"mount --bind {self.folder} {ACCOUNT_FOLDER} && exec \"$@\""
        environment = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        process = self.processes[container["name"]] = self.cluster.run(
            f"{self.pod['metadata']['name']}-{container['name']}",
            *("ip", "netns", "exec", self.name, "sh", "-c", script, "sh", *words),
            environment={**IN_A_POD, **environment},
        )
        self.callback(self.cluster.end, process)
