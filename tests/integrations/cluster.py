"""What of a cluster no registry holds: the part of the Kubernetes API that a scraper asks for pods."""

import http.server
import json
import queue
import re
import threading
import urllib.parse


class Cluster:
    """Pods, as the Kubernetes API lists and watches them, at 127.0.0.1 and a free port.

    At /discovered they are as Prometheus itself finds them by role `pod`, for a build that cannot: Debian's.
    """

    def __init__(self, namespace="ml"):
        self.namespace = namespace
        self.pods = {}
        self.version = 0
        self.watchers = []
        self.lock = threading.Lock()
        cluster = self

        class Api(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                if url.path == "/discovered":
                    with cluster.lock:
                        return self.answer([found for pod in cluster.pods.values() for found in discovered(pod)])
                if url.path != "/api/v1/pods":
                    return self.send_error(404)
                if "watch" in urllib.parse.parse_qs(url.query):
                    return self.watch()
                with cluster.lock:
                    pods = {
                        "kind": "PodList",
                        "apiVersion": "v1",
                        "metadata": {"resourceVersion": str(cluster.version)},
                        "items": list(cluster.pods.values()),
                    }
                return self.answer(pods)

            def answer(self, value):
                body = json.dumps(value).encode()
                self.head()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return None

            def watch(self):
                events = queue.Queue()
                with cluster.lock:
                    cluster.watchers.append(events)
                self.head()
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while (event := events.get()) is not None:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")

            def head(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/json")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        with self.lock:
            for events in self.watchers:
                events.put(None)
        self.server.server_close()

    def discovery(self):
        """Where Prometheus finds these pods if it cannot ask the API."""
        return {"url": f"{self.url}/discovered", "refresh_interval": "1s"}

    def add(self, name, address, annotations=None, labels=None, phase="Running", containers=("app", "qpext", "queue-proxy")):
        """Adds a pod that runs at an address, with these containers, each of which has two ports."""
        containers = [
            {"name": container, "image": "none", "ports": [{"containerPort": port, "protocol": "TCP"} for port in (8080, 8012)]}
            for container in containers
        ]
        pod = {
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "uid": f"uid-of-{name}",
                "annotations": annotations or {},
                "labels": labels or {},
            },
            "spec": {"nodeName": "node", "containers": containers},
            "status": {
                "phase": phase,
                "podIP": address,
                "hostIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.tell("ADDED", pod)

    def delete(self, name):
        """Deletes a pod."""
        self.tell("DELETED", self.pods[name])

    def tell(self, event, pod):
        with self.lock:
            self.version += 1
            pod["metadata"]["resourceVersion"] = str(self.version)
            name = pod["metadata"]["name"]
            if event == "DELETED":
                del self.pods[name]
            else:
                self.pods[name] = pod
            for events in self.watchers:
                events.put({"type": event, "object": pod})


def discovered(pod):
    """The targets of a pod, one for each port (`buildPod` in Prometheus's discovery/kubernetes/pod.go)."""
    metadata, status = pod["metadata"], pod["status"]
    if status["podIP"] is None:
        return []
    labels = {
        "__meta_kubernetes_namespace": metadata["namespace"],
        "__meta_kubernetes_pod_name": metadata["name"],
        "__meta_kubernetes_pod_ip": status["podIP"],
        "__meta_kubernetes_pod_phase": status["phase"],
        "__meta_kubernetes_pod_uid": metadata["uid"],
    }
    for kind in ("annotation", "label"):
        for name, value in metadata[f"{kind}s"].items():
            name = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            labels[f"__meta_kubernetes_pod_{kind}_{name}"] = value
            labels[f"__meta_kubernetes_pod_{kind}present_{name}"] = "true"
    return [
        {
            "targets": [f"{status['podIP']}:{port['containerPort']}"],
            "labels": {
                **labels,
                "__meta_kubernetes_pod_container_name": container["name"],
                "__meta_kubernetes_pod_container_port_number": str(port["containerPort"]),
            },
        }
        for container in pod["spec"]["containers"]
        for port in container["ports"]
    ]
