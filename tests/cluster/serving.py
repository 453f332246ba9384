"""Knative Serving and KServe: their controllers and webhooks, started as their releases are, but for the network that they route by."""

import base64
import json
import re

from cluster import await_that
from parts import PARTS, files, program

#: Registries of which there is none: of what they hold, nobody asks for a digest.
REGISTRIES = "docker.io,index.docker.io,registry.example,example.com,ghcr.io"


def version(name):
    return PARTS[name].version


def authority(cluster):
    return base64.b64encode((cluster.folder / "ca.crt").read_bytes()).decode()


def objects(cluster, path, replace=None):
    """What a file holds, or what a kustomization makes."""
    text = cluster.kubectl("kustomize", path) if path.is_dir() else path.read_text()
    for old, new in (replace or {}).items():
        text = text.replace(old, new)
    said = cluster.kubectl("create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-", given=text)
    # One after the other, without a comma between them.
    decoder, found = json.JSONDecoder(), []
    while said := said.strip():
        each, end = decoder.raw_decode(said)
        said = said[end:]
        found += each["items"] if each["kind"] == "List" else [each]
    return found


def apply(cluster, *things):
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(things)})
    cluster.kubectl("apply", "--server-side", "-f", "-", given=text)


def define(cluster, *paths):
    """Applies definitions of resources, and awaits that they are there."""
    for path in paths:
        cluster.kubectl("apply", "--server-side", "-f", path)
    # It fails where one has no status yet.
    await_that(
        "definitions that are established",
        lambda: cluster.kubectl("wait", "--for=condition=established", "--timeout=60s", "crd", "--all"),
    )


def apply_webhooks(cluster, path, port):
    """Applies the configurations of webhooks that a program outside of the cluster serves."""
    configurations = objects(cluster, path)
    for configuration in configurations:
        configuration["metadata"].pop("creationTimestamp", None)
        for webhook in configuration["webhooks"]:
            client = webhook["clientConfig"]
            client["url"] = f"https://127.0.0.1:{port}{client.pop('service')['path']}"
            client["caBundle"] = authority(cluster)
    apply(cluster, *configurations)


def certificates(cluster, name):
    """A folder as a controller's webhook has it for its certificate, and the variable that names it."""
    cluster.make_certificate(name, f"/CN={name}", ["DNS:localhost", "IP:127.0.0.1"])
    folder = cluster.folder / name / "k8s-webhook-server" / "serving-certs"
    folder.mkdir(parents=True)
    for kind, own in (("crt", f"{name}.crt"), ("key", f"{name}.key")):
        (folder / f"tls.{kind}").write_bytes((cluster.folder / own).read_bytes())
    return {"TMPDIR": str(cluster.folder / name)}


class Knative:
    """Knative's controller and webhook, of a line of releases."""

    NAMESPACE = "knative-serving"

    def __init__(self, cluster, release):
        self.cluster, self.release = cluster, release
        own = files(f"knative-{release}") / "core"
        networking, caching = (files(f"knative-{name}-{release}") for name in ("networking", "caching"))
        names = ("certificate", "domain-claim", "ingress", "serverlessservice")
        define(
            cluster,
            *sorted((own / "300-resources").glob("*.yaml")),
            *(networking / f"{name}.yaml" for name in names),
            caching / "image.yaml",
        )
        cluster.kubectl("apply", "-f", own / "100-namespace.yaml")
        cluster.await_namespace(self.NAMESPACE)
        for path in (*sorted((own / "configmaps").glob("*.yaml")), networking / "config-network.yaml"):
            cluster.kubectl("apply", "-f", path)
        self.configure("config-deployment", {"registries-skipping-tag-resolving": REGISTRIES})
        cluster.kubectl("apply", "-f", own / "webhooks" / "secret.yaml")
        self.run("webhook", 29091, 28301, {"WEBHOOK_NAME": "webhook", "WEBHOOK_PORT": "8443"})
        self.run("controller", 29090, 28300, {})
        cluster.serve_outside(self.NAMESPACE, "webhook", "https-webhook", 8443)
        for name in ("configmap-validation", "defaulting", "resource-validation"):
            cluster.kubectl("apply", "-f", own / "webhooks" / f"{name}.yaml")

        def are_served():
            """They have their authority once the webhook has made it."""
            kinds = {"mutating": "webhook.serving.knative.dev", "validating": "validation.webhook.serving.knative.dev"}
            for kind, name in kinds.items():
                path = f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/{name}"
                hooks = cluster.api("GET", path)["webhooks"]
                if not all(hook["clientConfig"].get("caBundle") and hook.get("rules") for hook in hooks):
                    return False
            return True

        await_that("Knative's webhooks", are_served)

    def configure(self, name, data):
        path = f"/api/v1/namespaces/{self.NAMESPACE}/configmaps/{name}"
        self.cluster.api("PATCH", path, {"data": data}, "application/merge-patch+json")

    def run(self, name, metrics, probes, more):
        self.cluster.run(
            f"knative-{name}",
            program(f"knative-{name}-{self.release}"),
            environment={
                "POD_NAME": name,
                "SYSTEM_NAMESPACE": self.NAMESPACE,
                "CONFIG_LOGGING_NAME": "config-logging",
                "CONFIG_OBSERVABILITY_NAME": "config-observability",
                "CONFIG_LEADER_ELECTION_NAME": "config-leader-election",
                "METRICS_DOMAIN": "knative.dev/internal/serving",
                "METRICS_PROMETHEUS_PORT": str(metrics),
                "PROBES_PORT": str(probes),
                "KUBECONFIG": str(self.cluster.folder / "admin.kubeconfig"),
                **more,
            },
        )


class KServe:
    """KServe's controller and its webhooks, of a line of releases."""

    NAMESPACE = "kserve"
    PORT = 19443

    def __init__(self, cluster, release, configuration=None):
        self.cluster, self.release = cluster, release
        self.part = f"kserve-{release}"
        self.version = version(self.part)
        #: A release's images are tagged by its version.
        self.tags = {":latest": f":{self.version}"}
        own = files(self.part)
        full = own / "crd" / "full"
        define(cluster, *sorted(full.glob("serving*.yaml")), *sorted(full.glob("clusterstoragecontainer/serving*.yaml")))
        cluster.namespace(self.NAMESPACE)
        [settings] = objects(cluster, own / "configmap" / "inferenceservice.yaml", self.tags)
        settings["data"].pop("_example", None)
        for key, changes in {"ingress": {"disableIstioVirtualHost": True, "disableIngressCreation": True}, **(configuration or {})}.items():
            settings["data"][key] = json.dumps({**json.loads(settings["data"][key]), **changes})
        apply(cluster, settings)
        cluster.run(
            "kserve-manager",
            program(f"kserve-manager-{release}"),
            "--metrics-addr=127.0.0.1:18080",
            "--health-probe-addr=127.0.0.1:18081",
            f"--webhook-port={self.PORT}",
            environment={
                "POD_NAMESPACE": self.NAMESPACE,
                "KUBECONFIG": str(cluster.folder / "admin.kubeconfig"),
                **certificates(cluster, "kserve-webhook"),
            },
        )
        runtimes = objects(cluster, own / "runtimes", self.tags)
        container = objects(
            cluster, own / "storagecontainers" / "default.yaml", {"default-storage-initilizer:replace": self.storage_initializer},
        )
        await_that("KServe's webhooks", lambda: apply(cluster, *runtimes, *container) is None)
        apply_webhooks(cluster, own / "webhook" / "manifests.yaml", self.PORT)

    @property
    def storage_initializer(self):
        return f"kserve/storage-initializer:{self.version}"


class LLMInferenceServices:
    """KServe's controller of LLMInferenceServices, beside the other one."""

    PORT = 19444

    def __init__(self, cluster, kserve):
        own = files(kserve.part)
        definitions = sorted((own / "crd" / "full" / "llmisvc").glob("serving*.yaml"))
        # What a scheduler is routed by.
        of_routes = [*files("gateway-api").glob("gateway*.yaml"), *files("inference-extension").glob("*.yaml")]
        define(cluster, *definitions, *sorted(path for path in of_routes if path.name != "kustomization.yaml"))
        environment = certificates(cluster, "llmisvc-webhook")
        client = {"url": f"https://127.0.0.1:{self.PORT}/convert", "caBundle": authority(cluster)}
        conversion = {"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1", "v1beta1"]}}
        for path in definitions:
            name = path.stem.removeprefix("serving.kserve.io_") + ".serving.kserve.io"
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            cluster.api("PATCH", path, {"spec": {"conversion": conversion}}, "application/merge-patch+json")
        cluster.run(
            "kserve-llmisvc",
            program(f"kserve-llmisvc-{kserve.release}"),
            "--metrics-addr=127.0.0.1:18082",
            "--metrics-secure=false",
            "--health-probe-addr=127.0.0.1:18083",
            f"--webhook-port={self.PORT}",
            environment={"POD_NAMESPACE": kserve.NAMESPACE, "KUBECONFIG": str(cluster.folder / "admin.kubeconfig"), **environment},
        )
        apply_webhooks(cluster, own / "webhook" / "llmisvc" / "manifests.yaml", self.PORT)
        templates = sorted((own / "llmisvcconfig").glob("config*.yaml"))
        #: The images that the templates name.
        self.images = {image for path in templates for image in re.findall(r"image: (\S+)", path.read_text())}
        for path in templates:
            await_that(
                f"a webhook that takes {path.name}",
                lambda path=path: cluster.kubectl("apply", "--server-side", "-n", kserve.NAMESPACE, "-f", path),
            )
