"""Archives of the images that pods of a real node have: the project's own, as `scripts/image` builds them, and what they stand beside.

    archives.py    writes them all below `target`
"""

import pathlib
import shutil
import subprocess
import sys

from parts import SHELL, debian, go, program

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.append(str(ROOT / "tests" / "integrations"))
from images import build, make_compiler, make_image, run  # noqa: E402

FOLDER = ROOT / "target" / "cluster" / "images"
#: The releases of Knative of whose queue-proxies drop-ins are made.
KNATIVE = ("0.44", "0.48")

PAUSE = """\
#include <signal.h>
#include <unistd.h>
static void end(int number) { (void) number; _exit(0); }
int main(void) { signal(SIGTERM, end); for (;;) pause(); }
"""


def pause(root):
    subprocess.run(["cc", "-static", "-O", "-x", "c", "-o", root / "pause", "-"], input=PAUSE, text=True, check=True)


def app(root):
    """The application, also by the names of the shell that starts vLLM and of llm-d's proxy, and what a model does before its end."""
    (root / "bin").mkdir()
    go("build", "-o", root / "bin" / "app", "main.go", cwd=HERE / "app")
    shutil.copy(debian(*SHELL) / "bin" / "busybox", root / "bin" / "busybox")
    for name, of in (("bash", "app"), ("sleep", "busybox")):
        (root / "bin" / name).symlink_to(of)
    (root / "app").mkdir()
    (root / "app" / "pd-sidecar").symlink_to("/bin/app")


def done(root):
    """A program that has done at once what is asked of it."""
    shutil.copy(debian(*SHELL) / "bin" / "busybox", root / "true")


def write(image, name):
    """An archive of an image that is built, by the name that pods have for it."""
    archive = FOLDER / f"{name.replace(':', '-')}.tar"
    archive.unlink(missing_ok=True)
    run("buildah", "push", image, f"docker-archive:{archive}:docker.io/library/{name}")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = "localhost/qpext-test-made"
    for name, fill, entrypoint in (("pause:1", pause, "/pause"), ("done:1", done, "/true"), ("app:1", app, "/bin/app")):
        make_image(made, fill, entrypoint=entrypoint, PATH="/bin")
        write(made, name)
    directories = make_compiler()
    build("sidecar", made, directories)
    write(made, "qpext:0.1.0")
    for release in KNATIVE:
        queue = "localhost/qpext-test-knative-queue"

        def fill(root):
            (root / "ko-app").mkdir()
            shutil.copy(program(f"knative-queue-{release}"), root / "ko-app" / "queue")

        make_image(queue, fill)
        build("queue-proxy", made, directories, queue=queue)
        write(made, f"qpext-queue:{release}")


if __name__ == "__main__":
    main()
