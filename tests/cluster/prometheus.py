"""The real Prometheus, under a ServiceAccount that may see pods and nothing else, at the address that the kits name."""

import json
import pathlib
import tempfile
import urllib.parse
import urllib.request

from cluster import MACHINE, ROOT
from parts import program

KIT = ROOT / "deploy" / "prometheus"
ADDRESS = f"{MACHINE}:9090"


def account(cluster):
    """Makes the ServiceAccount, and gives the environment of the server's pod."""
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    return cluster.account("monitoring", "prometheus", rules)


def start(test, cluster, environment, configuration, seconds=1):
    """Starts one that is configured so, but for how often it scrapes; it ends with the test. Gives its process."""
    folder = pathlib.Path(test.enterContext(tempfile.TemporaryDirectory()))
    text = configuration.replace("scrape_interval: 30s", f"scrape_interval: {seconds}s")
    text = text.replace("scrape_timeout: 10s", f"scrape_timeout: {seconds}s")
    (folder / "prometheus.yml").write_text(text)
    process = cluster.run(
        "prometheus",
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={ADDRESS}",
        environment=environment,
    )
    test.addCleanup(cluster.end, process)
    return process


def api(path, **parameters):
    """What it answers."""
    with urllib.request.urlopen(f"http://{ADDRESS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.loads(answer.read())["data"]
