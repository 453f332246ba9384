"""Images that are built here: no registry is reached, and what compiles is this machine's own toolchain, in place of the usual image."""

import json
import os
import pathlib
import subprocess

from pod import ROOT

#: The image of what compiles.
COMPILER = "localhost/qpext-test-compiler"

#: Where crates are kept from one build to the next.
HOME = pathlib.Path.home()
CARGO = pathlib.Path(os.environ.get("CARGO_HOME", HOME / ".cargo"))


def run(*command, **options):
    """What a command says, once it has ended well."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}")
    return done.stdout.strip()


def make_image(name, fill, platform=None, entrypoint=None, **environment):
    """An image of what `fill` puts into a directory, for this machine or another; one that is to be run is run as a user."""
    container = run("buildah", "from", "scratch")
    try:
        fill(pathlib.Path(run("buildah", "mount", container)))
        if platform is not None:
            architecture, _, variant = platform.partition("/")
            run("buildah", "config", "--arch", architecture, "--variant", variant, container)
        if entrypoint is not None:
            run("buildah", "config", "--entrypoint", json.dumps([entrypoint]), "--user", "1000", container)
        for variable, value in environment.items():
            run("buildah", "config", "--env", f"{variable}={value}", container)
        run("buildah", "commit", "--quiet", container, name)
    finally:
        run("buildah", "rm", container)


def compiler(root):
    """The directories over which this machine's own are mounted."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


def make_compiler():
    """Makes the image that compiles for this machine, and gives the directories that it needs of it."""
    rustup = pathlib.Path(os.environ.get("RUSTUP_HOME", HOME / ".rustup"))
    make_image(COMPILER, compiler, PATH=os.environ["PATH"], HOME=HOME, CARGO_HOME=CARGO, RUSTUP_HOME=rustup)
    return [f"{CARGO}:{CARGO}", f"{rustup}:{rustup}:ro"]


def build(image, tag, directories, *options, queue=None):
    """Builds an image by `scripts/image`, with these directories of the machine's, and with this image of the queue-proxy."""
    # Kept from one run to the next, as it takes minutes.
    target = ROOT / "target" / "image"
    target.mkdir(parents=True, exist_ok=True)
    volumes = ["/usr:/usr:ro", "/etc:/etc:ro", f"{target}:/src/target", *directories]
    options = [*options, "--isolation", "chroot", *(word for volume in volumes for word in ("--volume", volume))]
    environment = {**os.environ, "BUILDER": "buildah", "RUST_IMAGE": COMPILER}
    if queue:
        environment["QUEUE_IMAGE"] = queue
    run(ROOT / "scripts" / "image", image, tag, *options, env=environment)
