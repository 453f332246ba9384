"""The real Prometheus, under a ServiceAccount that may see pods and nothing else, at the address that the kits name."""

import json
import pathlib
import re
import ssl
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


def faster(configuration, seconds=1):
    """The configuration, but for how often is scraped."""
    text = configuration.replace("scrape_interval: 30s", f"scrape_interval: {seconds}s")
    return text.replace("scrape_timeout: 10s", f"scrape_timeout: {seconds}s")


def start(test, cluster, environment, configuration, seconds=1, rules=False, web=None):
    """Starts one that is configured so, but for how often it scrapes; it ends with the test, or the cluster. Gives its process.

    It has the kit's rules, if asked, whose alerts wait for a second, and its API is secured as `web` says.
    """
    if isinstance(test, type):
        folder = cluster.folder / "prometheus"
        folder.mkdir()
    else:
        folder = pathlib.Path(test.enterContext(tempfile.TemporaryDirectory()))
    text = faster(configuration, seconds)
    if rules:
        text_of_rules = (KIT / "rules.yaml").read_text().replace("interval: 30s", "interval: 1s")
        (folder / "rules.yml").write_text(re.sub(r"for: \w+", "for: 1s", text_of_rules))
        text = "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n" + text
    (folder / "prometheus.yml").write_text(text)
    process = cluster.run(
        "prometheus",
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={ADDRESS}",
        *([f"--web.config.file={web.file}"] if web else []),
        environment=environment,
    )
    if not isinstance(test, type):
        test.addCleanup(cluster.end, process)
    return process


def url(web=None):
    return f"{'https' if web else 'http'}://{ADDRESS}"


def api(path, web=None, **parameters):
    """What it answers."""
    request = urllib.request.Request(f"{url(web)}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    context = None
    if web:
        request.add_header("Authorization", web.authorization)
        context = ssl.create_default_context(cafile=web.ca_file)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return json.loads(answer.read())["data"]
