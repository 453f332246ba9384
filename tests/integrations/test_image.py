"""Both images, built by scripts/image with buildah and run as they would be in a pod: as their user, on a read-only root.

No registry is reached. What compiles is this machine's own toolchain, put in place of the usual image, and a program of a few
lines stands in for Knative's queue-proxy.
"""

import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import unittest

from images import CARGO, COMPILER, build, compiler, make_compiler, make_image, run
from pod import ROOT, Programs, await_that, free_port, get, port_of

#: The largest that the sidecar's image may be, in bytes.
LARGEST = 8_000_000

#: What the images are called here.
QUEUE, SIDECAR, DROP_IN = (f"localhost/qpext-test-{name}" for name in ("queue", "sidecar", "queue-proxy"))

#: What compiles for another architecture.
ARM_COMPILER = "aarch64-linux-gnu-gcc"
ARM_LIBRARY = pathlib.Path("/usr/lib/rustlib/aarch64-unknown-linux-gnu")

#: The program that stands in for the queue-proxy: it says its arguments, and drains for a signal.
PROGRAM = r"""
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t drains;
static void drain(int number) { (void) number; drains = 1; }

int main(int count, char **arguments) {
    signal(SIGTERM, drain);
    printf("queue of user %d:", (int) getuid());
    for (int index = 0; index < count; index++) printf(" %s", arguments[index]);
    printf("\n");
    fflush(stdout);
    while (!drains) pause();
    puts("drained");
    return 7;
}
"""


def queue(root, compiler="cc"):
    folder = root / "ko-app"
    folder.mkdir()
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / "queue.c"
        source.write_text(PROGRAM)
        run(compiler, "-static", "-O", "-o", folder / "queue", source)


def build_both(directories, *options):
    """Builds both images, with these directories of the machine's."""
    build("sidecar", SIDECAR, directories, *options)
    build("queue-proxy", DROP_IN, directories, *options, queue=QUEUE)


def mounted(test, image):
    """The root of a container of an image, for as long as the test takes, and how it is configured."""
    # Of another architecture it warns before it says the name.
    container = run("buildah", "from", image).splitlines()[-1]
    test.addCleanup(run, "buildah", "rm", container)
    configuration = json.loads(run("buildah", "inspect", "--type", "image", image))["OCIv1"]["config"]
    return pathlib.Path(run("buildah", "mount", container)), configuration


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directories = make_compiler()
        make_image(QUEUE, queue)
        build_both(directories)

    @staticmethod
    def command(root, configuration, *arguments):
        """The image's command as its user, in a root that nobody can write to."""
        words = [*configuration["Entrypoint"], *arguments]
        root = shlex.quote(str(root))
        inside = f"mount --bind {root} {root} && mount -o remount,bind,ro {root} && exec chroot --userspec={configuration['User']} {root} {shlex.join(words)}"
        return ["unshare", "--mount", "sh", "-c", inside]

    def test_the_sidecar_is_a_program_and_certificates(self):
        root, configuration = mounted(self, SIDECAR)
        files = {str(path.relative_to(root)): path.stat() for path in root.rglob("*") if path.is_file()}
        self.assertEqual(set(files), {"qpext", "etc/ssl/certs/ca-certificates.crt"})
        self.assertLessEqual(sum(stat.st_size for stat in files.values()), LARGEST)
        self.assertIn("static-pie linked", run("file", root / "qpext"))
        self.assertEqual(configuration["User"], "65532:65532")
        self.assertEqual(configuration["Entrypoint"], ["/qpext"])
        self.assertEqual(list(configuration["ExposedPorts"]), ["9088/tcp"])
        labels = configuration["Labels"]
        version = run(*self.command(root, configuration, "--version"))
        self.assertEqual(version, f"qpext {labels['org.opencontainers.image.version']}")
        self.assertEqual(labels["org.opencontainers.image.revision"], run("git", "rev-parse", "HEAD", cwd=ROOT))
        self.assertEqual(labels["org.opencontainers.image.licenses"], "Apache-2.0")
        self.assertRegex(labels["org.opencontainers.image.created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def test_the_sidecar_serves(self):
        with Programs() as programs:
            port = free_port()
            root, configuration = mounted(self, SIDECAR)
            app, queue_proxy = (programs.python("text_target.py") for _ in range(2))
            variables = {
                "AGGREGATE_PROMETHEUS_METRICS_PORT": str(port),
                "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT": str(port_of(app)),
                "QPEXT_QUEUE_PROXY_METRICS_PORT": str(port_of(queue_proxy)),
                "SERVING_SERVICE": "iris",
            }
            process = programs.run(self.command(root, configuration), variables, stderr=subprocess.PIPE)
            self.addCleanup(process.stderr.close)
            _, text = await_that("an answer", lambda: get(f"http://127.0.0.1:{port}/metrics"))
            self.assertIn('kn_requests_total{service_name="iris"} 7', text)
            self.assertEqual(pathlib.Path(f"/proc/{process.pid}/status").read_text().split("Uid:\t")[1].split()[0], "65532")
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(), 0)

    def test_the_drop_in_runs_the_queue_proxy_and_serves_beside_it(self):
        with Programs() as programs:
            port = free_port()
            root, configuration = mounted(self, DROP_IN)
            files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
            self.assertEqual(files, {"ko-app/qpext", "ko-app/queue", "etc/ssl/certs/ca-certificates.crt"})
            self.assertEqual(configuration["User"], "65532:65532")
            self.assertEqual(configuration["Entrypoint"], ["/ko-app/qpext", "run", "--", "/ko-app/queue"])
            target = programs.python("text_target.py")
            variables = {
                "AGGREGATE_PROMETHEUS_METRICS_PORT": str(port),
                "QPEXT_QUEUE_PROXY_METRICS_PORT": str(port_of(target)),
            }
            command = self.command(root, configuration, "--flag", "a b")
            process = programs.run(command, variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.addCleanup(process.stdout.close)
            self.assertEqual(process.stdout.readline(), "queue of user 65532: /ko-app/queue --flag a b\n")
            _, text = await_that("an answer", lambda: get(f"http://127.0.0.1:{port}/metrics"))
            self.assertIn("kn_requests_total 7", text)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.stdout.readline(), "drained\n")
            self.assertEqual(process.wait(), 7)


@unittest.skipUnless(ARM_LIBRARY.is_dir() and shutil.which(ARM_COMPILER), "scripts/test-arm64 installs what compiles for it")
class Arm64(unittest.TestCase):
    """The images for another architecture than this machine's: compiled by Debian's own toolchain, and emulated."""

    @classmethod
    def setUpClass(cls):
        make_image(COMPILER, compiler, PATH="/usr/bin:/bin", CARGO_HOME=CARGO)
        make_image(QUEUE, lambda root: queue(root, ARM_COMPILER), "arm64/v8")
        build_both([f"{CARGO}:{CARGO}"], "--platform", "linux/arm64")

    def test_both_images_hold_static_programs_of_that_architecture(self):
        for image, programs in ((SIDECAR, {"qpext"}), (DROP_IN, {"ko-app/qpext", "ko-app/queue"})):
            self.assertEqual(run("buildah", "inspect", "--type", "image", "--format", "{{.OCIv1.Architecture}}", image), "arm64")
            root, _ = mounted(self, image)
            files = {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}
            self.assertEqual(set(files), {*programs, "etc/ssl/certs/ca-certificates.crt"})
            for program in programs:
                self.assertRegex(run("file", root / program), "ARM aarch64.*static")
            if image == SIDECAR:
                self.assertLessEqual(sum(files.values()), LARGEST)

    def test_it_serves_alone_and_beside_a_program(self):
        root, _ = mounted(self, SIDECAR)
        for beside in ([], ["run", "--", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"]):
            with self.subTest(beside=beside), Programs() as programs:
                port = free_port()
                app = programs.python("text_target.py")
                variables = {
                    "AGGREGATE_PROMETHEUS_METRICS_PORT": str(port),
                    "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT": str(port_of(app)),
                    "QPEXT_QUEUE_PROXY_METRICS_PORT": "",
                    "SERVING_SERVICE": "iris",
                }
                process = programs.run(["qemu-aarch64-static", root / "qpext", *beside], variables, stderr=subprocess.DEVNULL)
                _, text = await_that("an answer", lambda: get(f"http://127.0.0.1:{port}/metrics"))
                self.assertIn('kn_requests_total{service_name="iris"} 7', text)
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.wait(), 7 if beside else 0)


if __name__ == "__main__":
    unittest.main()
