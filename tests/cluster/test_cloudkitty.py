"""The kit for CloudKitty: its own collector reads the shipped files and fetches from a real Prometheus behind TLS and a password."""

import base64
import configparser
import datetime
import pathlib
import subprocess
import tempfile
import unittest
from decimal import Decimal

import bcrypt
import requests
from cloudkitty import utils
from cloudkitty.collector import prometheus as prometheus_collector
from cloudkitty.fetcher import prometheus as prometheus_fetcher
from oslo_config import cfg

import prometheus
from cluster import ROOT, await_that
from models import OTHER, REVISION, SERVICE, WAITING, WINDOW_SECONDS, start

KIT = ROOT / "deploy" / "rating" / "cloudkitty"


class Web:
    """A server's certificate of an authority of its own, and the one user that it knows."""

    user, password = "cloudkitty", "correct horse"

    def __init__(self, folder):
        self.ca_file = folder / "ca.pem"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        authority = ["-x509", "-subj", "/CN=an authority", "-keyout", folder / "ca.key", "-out", self.ca_file]
        server = ["-subj", "/CN=prometheus", "-keyout", folder / "key.pem", "-out", folder / "request.pem"]
        (folder / "names").write_text("subjectAltName=IP:10.244.0.1")
        signed = ["-CA", self.ca_file, "-CAkey", folder / "ca.key", "-CAcreateserial", "-extfile", folder / "names"]
        for command in (
            ["req", *key, *authority],
            ["req", "-new", *key, *server],
            ["x509", "-req", "-in", folder / "request.pem", *signed, "-out", folder / "cert.pem"],
        ):
            subprocess.run(["openssl", *command], check=True, stderr=subprocess.DEVNULL)
        self.authorization = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        self.file = folder / "web.yml"
        secret = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
        self.file.write_text(
            f"tls_server_config: {{cert_file: {folder / 'cert.pem'}, key_file: {folder / 'key.pem'}}}\n"
            f"basic_auth_users: {{{self.user}: {secret}}}\n"
        )


class CloudKitty(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.web = Web(folder)
        cls.cluster = start(cls, cls.web)
        # The shipped configuration, but for where things are here.
        shipped = configparser.ConfigParser()
        shipped.read(KIT / "cloudkitty.conf")
        shipped["collect"]["metrics_conf"] = str(KIT / "metrics.yml")
        for section in ("collector_prometheus", "fetcher_prometheus"):
            assert shipped[section]["prometheus_url"].startswith("https://"), section
            shipped[section]["prometheus_url"] = f"{prometheus.url(cls.web)}/api/v1"
            shipped[section]["prometheus_user"] = cls.web.user
            shipped[section]["prometheus_password"] = cls.web.password
            shipped[section]["cafile"] = str(cls.web.ca_file)
        with open(folder / "cloudkitty.conf", "w", encoding="utf-8") as file:
            shipped.write(file)
        cfg.CONF(["--config-file", str(folder / "cloudkitty.conf")], project="cloudkitty")
        cls.collector = prometheus_collector.PrometheusCollector(
            period=cfg.CONF.collect.period, conf=utils.load_conf(cfg.CONF.collect.metrics_conf)
        )

    def collected(self, metric, scope="default"):
        """What CloudKitty collects of a metric, and the query by which the same is asked here."""
        end = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        begin = end - datetime.timedelta(seconds=WINDOW_SECONDS)
        [name] = [name for name in self.collector.conf if name.split("@#")[0] == metric]
        points = self.collector.fetch_all(name, begin, end, scope)
        return self.collector.conf[name]["alt_name"], points, end.timestamp()

    def value(self, query, time):
        [element] = prometheus.api("query", web=self.web, query=query, time=time)["result"]
        return Decimal(element["value"][1])

    def test_a_stranger_is_refused(self):
        url = f"{prometheus.url(self.web)}/api/v1/query?query=up"
        self.assertEqual(requests.get(url, verify=str(self.web.ca_file), timeout=60).status_code, 401)
        with self.assertRaises(requests.exceptions.SSLError):
            requests.get(url, auth=(self.web.user, self.web.password), timeout=60)

    def test_quantities_are_of_each_service_and_revision(self):
        pods = len(WAITING)
        for metric, name, unit, in_a_second in (
            ("request_predict_seconds_count", "inference.requests", "request", 10 * pods),
            ("vllm:prompt_tokens_total", "inference.tokens.prompt", "token", 400 * pods),
            ("vllm:generation_tokens_total", "inference.tokens.generation", "token", 4000 * pods),
        ):
            with self.subTest(metric=metric):
                alt_name, [point], end = self.collected(metric)
                self.assertEqual((alt_name, point.unit), (name, unit))
                self.assertEqual(
                    {key: point.groupby[key] for key in ("namespace", "service_name", "revision_name")},
                    {"namespace": "default", "service_name": SERVICE, "revision_name": REVISION},
                )
                # What rose in a period of an hour, exactly as Prometheus says it and roughly as it was counted.
                rate = self.value(f'sum(rate({metric}{{namespace="default"}}[{WINDOW_SECONDS}s]))', end)
                self.assertAlmostEqual(point.qty / (rate * 3600), 1, places=6)
                self.assertAlmostEqual(float(rate) / in_a_second, 1, delta=0.5)

    def test_a_gpu_that_several_pods_see_is_counted_once(self):
        name, [point], end = self.collected("qpext:gpu_utilization:share")
        self.assertEqual((name, point.unit), ("inference.gpu", "GPU-second"))
        # Each evaluation stands for 30 seconds, in half of which one GPU had work: all pods, and the other namespace's, see the same.
        evaluations = self.value(f"max(count_over_time(qpext:gpu_utilization:share[{WINDOW_SECONDS}s]))", end)
        pods = len(WAITING)
        self.assertAlmostEqual(float(point.qty / (evaluations * 15)), pods / (pods + 1), delta=0.1)

    def test_a_namespace_without_models_has_nothing(self):
        for metric in ("request_predict_seconds_count", "qpext:gpu_utilization:share"):
            self.assertEqual(self.collected(metric, scope="monitoring")[1], [])

    def test_tenants_are_the_namespaces_that_had_a_sidecar_in_the_period(self):
        fetcher = prometheus_fetcher.PrometheusFetcher()
        self.assertEqual(set(fetcher.get_tenants()), {"default", OTHER})
        self.cluster.kubectl("delete", "namespace", OTHER)
        end = datetime.datetime.now(datetime.timezone.utc)
        await_that("the end of its series", lambda: not prometheus.api("query", web=self.web, query=f'up{{namespace="{OTHER}"}}')["result"])
        self.assertEqual(set(fetcher.get_tenants()), {"default", OTHER})
        # When its period is rated, it is long gone.
        begin = end - datetime.timedelta(seconds=WINDOW_SECONDS)
        for name in self.collector.conf:
            if name.startswith(("request_predict", "vllm:", "qpext:")):
                [point] = self.collector.fetch_all(name, begin, end, OTHER)
                self.assertGreater(point.qty, 0)


if __name__ == "__main__":
    unittest.main()
