"""The real programs of a cluster, built from the Go module proxy: each once for its version.

    parts.py build NAME...     builds what is missing, and prints NAME and its folder, one part a line
    parts.py versions          prints the table of versions that the documentation has

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

PARTS = {
    "kubernetes": Part(
        title="Kubernetes",
        module="k8s.io/kubernetes",
        version="v" + KUBERNETES,
        folders="v0." + KUBERNETES.partition(".")[2],
        programs={name: "k8s.io/kubernetes/cmd/" + name for name in ("kube-apiserver", "kube-controller-manager")},
        ldflags=" ".join(
            f"-X k8s.io/component-base/version.{name}={value}"
            for name, value in (("gitVersion", "v" + KUBERNETES), ("gitMajor", "1"), ("gitMinor", KUBERNETES.split(".")[1]))
        ),
    ),
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


def build(name):
    """Builds a part's programs, unless they are there."""
    part, ready = PARTS[name], folder(name)
    if part.files and not files(name).exists():
        files(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(pathlib.Path(source(name)["Dir"]) / part.files, files(name), copy_function=shutil.copyfile)
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
        # What is half made is never seen under the name; of two that make the same, the later finds it there.
        try:
            half.rename(ready)
        except OSError:
            if not ready.exists():
                raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return ready


def print_versions():
    """Prints the table of versions, which `deploy/README.md` has."""
    print("| Part | Version |\n|---|---|")
    for part in PARTS.values():
        print(f"| {part.title} | {part.version.removeprefix('v')} |")


def main():
    match sys.argv[1:]:
        case ["build", *names] if names and all(name in PARTS for name in names):
            for name in names:
                print(name, build(name))
        case ["versions"]:
            print_versions()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
