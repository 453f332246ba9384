"""The programs of a pod and the server that scrapes it, started and awaited."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SIDECAR = ROOT / "target" / "debug" / "qpext"

#: What the sidecar adds.
SERVING = {
    "service_name": "echo",
    "configuration_name": "echo-predictor",
    "revision_name": "echo-predictor-00001",
}

#: How long a program may take to do what it must: long, because the machine may be slow.
PATIENCE_SECONDS = 90
#: How long to wait before looking again, where there is no event to wait for.
POLL_SECONDS = 0.1


def free_port():
    """A port that was free a moment ago, for programs that cannot be asked for one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def port_of(url):
    return urllib.parse.urlsplit(url).port


def get(url, accept=None):
    """The answer's headers and text."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        return answer.headers, answer.read().decode()


def await_that(what, condition):
    """The first thing that `condition` gives and that is true; errors of a program that starts count as nothing."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with contextlib.suppress(OSError, urllib.error.URLError):
            if result := condition():
                return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {PATIENCE_SECONDS} s")
        time.sleep(POLL_SECONDS)


class Programs(contextlib.ExitStack):
    """Programs that run until the end of the block."""

    def run(self, command, environment=None, **options):
        process = subprocess.Popen(
            [str(word) for word in command],
            env={"PATH": os.environ["PATH"], **(environment or {})},
            **options,
        )
        self.callback(process.wait)
        self.callback(process.kill)
        return process

    def python(self, script, *arguments):
        """A Python program of this folder, which is told its port and more. Gives its /metrics once it answers."""
        port = free_port()
        log = self.enter_context(tempfile.TemporaryFile())
        self.run([sys.executable, HERE / script, port, *arguments], stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}/metrics"
        await_that(f"an answer of {script}", lambda: get(url))
        return url

    def sidecar(self, app, queue_proxy=None, **variables):
        """A sidecar before these endpoints, with other variables if they are given. Gives its /metrics."""
        app = urllib.parse.urlsplit(app)
        environment = {
            "AGGREGATE_PROMETHEUS_METRICS_PORT": "0",
            "KSERVE_CONTAINER_PROMETHEUS_METRICS_PORT": str(app.port),
            # Its own metrics are in no direct scrape.
            "QPEXT_SELF_METRICS": "false",
            "QPEXT_QUEUE_PROXY_METRICS_PORT": str(port_of(queue_proxy)) if queue_proxy else "",
            "SERVING_SERVICE": SERVING["service_name"],
            "SERVING_CONFIGURATION": SERVING["configuration_name"],
            "SERVING_REVISION": SERVING["revision_name"],
            **variables,
        }
        process = self.run([SIDECAR], environment, stderr=subprocess.PIPE, text=True)
        self.callback(process.stderr.close)
        for line in process.stderr:
            if port := json.loads(line).get("port"):
                return f"http://{environment.get('QPEXT_BIND_ADDRESS', '127.0.0.1')}:{port}/metrics"
        raise RuntimeError("the sidecar ended before it served")

    def prometheus(self, jobs):
        """A Prometheus that scrapes these endpoints, each as a job of its own."""
        configs = [
            {"job_name": name, "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc]}]}
            for name, url in jobs.items()
        ]
        folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "prometheus.yml"
        # JSON is YAML.
        config.write_text(json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": configs}))
        port = free_port()
        log = self.enter_context(tempfile.TemporaryFile())
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--enable-feature=exemplar-storage,native-histograms",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self.run(command, stdout=log, stderr=log)
        return Prometheus(f"http://127.0.0.1:{port}")


class Prometheus:
    """A running server's API."""

    def __init__(self, url):
        self.url = url

    def api(self, path, **parameters):
        _, text = get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(text)
        assert answer["status"] == "success", text
        return answer["data"]

    def await_scrape(self, job):
        """Returns when the job was scraped well."""
        up = f'up{{job="{job}"}} == 1'
        await_that(f"a scrape of {job}", lambda: self.api("query", query=up)["result"])

    def series(self, job):
        """The names and labels of everything that a job's last scrape gave, without what every scrape gives."""
        result = self.api("query", query=f'{{job="{job}"}}')["result"]
        own = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"}
        return {
            frozenset((name, value) for name, value in element["metric"].items() if name not in ("job", "instance"))
            for element in result
            if element["metric"]["__name__"] not in own
        }

    def metadata(self, job):
        """What a job's families are: their types, helps and units by their names."""
        metadata = self.api("targets/metadata", match_target=f'{{job="{job}"}}')
        return {entry["metric"]: (entry["type"], entry["help"], entry["unit"]) for entry in metadata}

    def exemplars(self, job):
        """The exemplars of a job: those of each series, without their timestamps, which change."""
        now = time.time()
        found = self.api("query_exemplars", query=f'{{job="{job}"}}', start=now - 600, end=now + 600)
        return {
            (
                frozenset((name, value) for name, value in series["seriesLabels"].items() if name not in ("job", "instance")),
                frozenset(exemplar["labels"].items()),
                exemplar["value"],
            )
            for series in found
            for exemplar in series["exemplars"]
        }


def with_serving_labels(series):
    """What these series must be behind the sidecar."""
    return {labels | frozenset(SERVING.items()) for labels in series}
