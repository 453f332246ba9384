"""The real programs of a cluster, built from the Go module proxy: each once for its version.

    parts.py build       builds what is missing
    parts.py versions    prints the table of versions that the documentation has

They are kept outside of the clone, in $QPEXT_TEST_CACHE, or else in qpext-tests in the user's folder of caches.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


@dataclasses.dataclass(frozen=True)
class Part:
    """A module, and the programs that are built of it."""

    title: str
    module: str
    version: str
    # The packages, by the names that their programs get.
    programs: dict
    # The version of the modules that the module has in its folders, if it has some.
    folders: str = ""
    # Lines of go.mod that its own lacks.
    more: tuple = ()
    tags: str = ""
    ldflags: str = ""
    # A folder of the module that is needed, too.
    files: str = ""


KUBERNETES = "1.36.3"


def kubernetes(*names):
    """Programs of Kubernetes, of one version."""
    return Part(
        title="Kubernetes",
        module="k8s.io/kubernetes",
        version="v" + KUBERNETES,
        folders="v0." + KUBERNETES.partition(".")[2],
        programs={name: "k8s.io/kubernetes/cmd/" + name for name in names},
        ldflags=" ".join(
            f"-X k8s.io/component-base/version.{name}={value}"
            for name, value in (("gitVersion", "v" + KUBERNETES), ("gitMajor", "1"), ("gitMinor", KUBERNETES.split(".")[1]))
        ),
    )


def kserve(version, *names):
    """KServe's controllers, which are called as their package and the line of releases."""
    module = "github.com/kserve/kserve"
    return Part(
        title="KServe",
        module=module,
        version=version,
        programs={f"kserve-{name}-{line(version)}": f"{module}/cmd/{name}" for name in names},
        files="config",
    )


def knative(version, *, networking, caching, more=()):
    """Knative Serving's controller and webhook, its queue-proxy, and what they need of two other modules: by the names of the parts."""
    module, release = "knative.dev/serving", line(version)
    return {
        f"knative-{release}": Part(
            title="Knative Serving",
            module=module,
            version=version,
            programs={f"knative-{name}-{release}": f"{module}/cmd/{name}" for name in ("controller", "webhook", "queue")},
            more=more,
            files="config",
        ),
        f"knative-networking-{release}": Part("Knative Networking", "knative.dev/networking", networking, {}, files="config"),
        f"knative-caching-{release}": Part("Knative Caching", "knative.dev/caching", caching, {}, files="config"),
    }


def line(version):
    """The line of releases that a version belongs to."""
    return version.removeprefix("v").rpartition(".")[0]


PARTS = {
    "kubernetes": kubernetes("kube-apiserver", "kube-controller-manager"),
    "node": kubernetes("kubelet", "kube-scheduler"),
    **knative(
        "v0.44.0",
        networking="v0.0.0-20250117155906-67d1c274ba6a",
        caching="v0.0.0-20250117155405-a76aa7cd2bb6",
        more=(
            "replace k8s.io/gengo/v2 v2.0.0-20240826214909-a7b603a56eb7 => k8s.io/gengo/v2 v2.0.0-20240228010128-51d4e06bde70",
        ),
    ),
    **knative("v0.48.1", networking="v0.0.0-20260120131110-a7cdca238a0d", caching="v0.0.0-20260120130310-f1fc03b7f5ee"),
    "knative-operator": Part("Knative's operator", "knative.dev/operator", "v0.48.1", {}, files="config/crd/bases"),
    "gateway-api": Part("Gateway API", "sigs.k8s.io/gateway-api", "v1.4.1", {}, files="config/crd/standard"),
    "inference-extension": Part(
        "Gateway API Inference Extension", "sigs.k8s.io/gateway-api-inference-extension", "v1.3.1", {}, files="config/crd/bases",
    ),
    "kserve-0.15": kserve("v0.15.2", "manager"),
    "kserve-0.19": kserve("v0.19.0", "manager", "llmisvc"),
    "etcd": Part(
        title="etcd",
        module="go.etcd.io/etcd/server/v3",
        version="v3.6.5",
        programs={"etcd": "go.etcd.io/etcd/server/v3"},
    ),
    "prometheus": Part(
        title="Prometheus",
        module="github.com/prometheus/prometheus",
        version="v0.316.0",
        programs={"prometheus": "github.com/prometheus/prometheus/cmd/prometheus"},
        tags="remove_all_sd,enable_kubernetes_sd",
    ),
    "prometheus-adapter": Part(
        title="prometheus-adapter",
        module="sigs.k8s.io/prometheus-adapter",
        version="v0.12.0",
        programs={"prometheus-adapter": "sigs.k8s.io/prometheus-adapter/cmd/adapter"},
    ),
    "prometheus-operator": Part(
        title="prometheus-operator",
        module="github.com/prometheus-operator/prometheus-operator",
        version="v0.85.0",
        folders="v0.85.0",
        programs={"prometheus-operator": "github.com/prometheus-operator/prometheus-operator/cmd/operator"},
        files="example/prometheus-operator-crd",
    ),
    "keda": Part(
        title="KEDA",
        module="github.com/kedacore/keda/v2",
        version="v2.20.2",
        programs={
            "keda-operator": "github.com/kedacore/keda/v2/cmd/operator",
            "keda-metrics-server": "github.com/kedacore/keda/v2/cmd/adapter",
        },
        files="config/crd/bases",
    ),
}


#: Packages of Debian: what a node runs containers by, and a shell for their images.
NODE = ("containerd", "runc", "containernetworking-plugins")
SHELL = ("busybox-static",)


def cache():
    """The folder in which the programs are kept."""
    own = os.environ.get("QPEXT_TEST_CACHE")
    caches = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return pathlib.Path(own) if own else caches / "qpext-tests"


def folder(name):
    """Where the programs of a part are, or are to be."""
    part = PARTS[name]
    built = dataclasses.astuple(dataclasses.replace(part, files=""))[:-1]
    key = hashlib.sha256(repr(built).encode()).hexdigest()[:16]
    return cache() / f"{name}-{part.version}-{key}"


def files(name):
    """Where the files of a part are, or are to be."""
    part = PARTS[name]
    return cache() / f"{name}-{part.version}-files" / pathlib.Path(part.files).name


def program(name):
    """The path of a program, which has been built."""
    owner = next(owner for owner, part in PARTS.items() if name in part.programs)
    path = folder(owner) / name
    if not path.exists():
        sys.exit(f"{path} is missing: scripts/test-cluster builds it")
    return str(path)


def go(*arguments, **options):
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false -mod=mod", "GOWORK": "off", "CGO_ENABLED": "0"}
    return subprocess.run(["go", *arguments], check=True, env=environment, **options)


def source(name):
    """The folder of a part's module, as it was published."""
    part = PARTS[name]
    with tempfile.TemporaryDirectory() as empty:
        module = go("mod", "download", "-json", f"{part.module}@{part.version}", cwd=empty, stdout=subprocess.PIPE)
    return json.loads(module.stdout)


def go_mod(part, own):
    """A go.mod that builds the part. A module's `replace` lines hold only where it is the main one, so that they are said again;
    of those that name its folders, the modules are published, too."""
    go_line = re.search(r"^go .*$", own, re.M).group()
    lines = ["module qpext/tests/cluster", go_line, f"require {part.module} {part.version}"]
    for line in re.findall(r"^\s*(?:replace\s+)?(\S.* => .*)$", own, re.M):
        replaced, _, by = (side.strip() for side in line.partition("=>"))
        by = by.partition("//")[0].strip()
        if by.startswith("."):
            if not part.folders:
                # It is required by its version anyway.
                continue
            module = replaced.split()[0]
            by = f"{module} {part.folders}"
        lines.append(f"replace {replaced} => {by}")
    return "\n".join([*lines, *part.more, ""])


def take(half, ready):
    """Gives a folder that is made its name: what is half made is never seen under it, and of two that make the same, the later finds it."""
    try:
        half.rename(ready)
    except OSError:
        if not ready.exists():
            raise
        shutil.rmtree(half)


def build(name):
    """Builds a part's programs, unless they are there."""
    part = PARTS[name]
    ready = folder(name) if part.programs else files(name)
    if part.files and not files(name).exists():
        cache().mkdir(parents=True, exist_ok=True)
        half = pathlib.Path(tempfile.mkdtemp(prefix="half.", dir=cache()))
        of_part = half / pathlib.Path(part.files).name
        shutil.copytree(pathlib.Path(source(name)["Dir"]) / part.files, of_part, copy_function=shutil.copyfile)
        take(half, files(name).parent)
    if ready.exists():
        return ready
    print(f"\n== build {part.title} {part.version}", file=sys.stderr, flush=True)
    cache().mkdir(parents=True, exist_ok=True)
    half = pathlib.Path(tempfile.mkdtemp(prefix="half.", dir=cache()))
    try:
        work = half / "work"
        work.mkdir()
        own = pathlib.Path(source(name)["GoMod"]).read_text()
        (work / "go.mod").write_text(go_mod(part, own))
        for program, package in part.programs.items():
            ldflags = f"-s -w {part.ldflags}".strip()
            go("build", "-trimpath", "-tags", part.tags, "-ldflags", ldflags, "-o", half / program, package, cwd=work)
        shutil.rmtree(work)
        take(half, ready)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return ready


def debian(*packages):
    """The folder in which these packages of Debian's are, which are not installed: nothing of them runs by itself."""
    ready = cache() / f"debian-{'-'.join(packages)}"
    if not ready.exists():
        half = pathlib.Path(tempfile.mkdtemp(prefix="half.", dir=cache()))
        # apt-get fetches as a user of its own, who must be let in; or else it says so, and fetches as root.
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=half, check=True, stderr=subprocess.DEVNULL)
        for package in half.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, half], check=True)
            package.unlink()
        take(half, ready)
    return ready


def print_versions():
    """Prints the table of versions, which `deploy/README.md` has."""
    versions = {}
    for part in PARTS.values():
        if part.programs:
            versions.setdefault(part.title, {})[part.version.removeprefix("v")] = None
    print("| Part | Version |\n|---|---|")
    for title, each in versions.items():
        print(f"| {title} | {', '.join(each)} |")


def main():
    match sys.argv[1:]:
        case ["build"]:
            for name in PARTS:
                build(name)
            debian(*NODE)
            debian(*SHELL)
        case ["versions"]:
            print_versions()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
