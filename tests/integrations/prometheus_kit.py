"""The shipped configuration of Prometheus, as the tests run it."""

import yaml

from pod import ROOT

KIT = ROOT / "deploy" / "prometheus"


def shipped(path):
    """A file of the kit."""
    return yaml.safe_load((KIT / path).read_text())


def shipped_configuration():
    """The scrape configuration, but for how often is scraped."""
    config = shipped("scrape.yaml")
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    for job in config["scrape_configs"]:
        del job["scrape_interval"], job["scrape_timeout"]
    return config


def prometheus_of_cluster(programs, cluster, web=None, jobs=()):
    """A real Prometheus with the kit's configuration and rules, all but the discovery, which Debian's has not.

    With `web`, its API is as secured as that says; with `jobs`, it scrapes those, too.
    """
    config = shipped_configuration()
    config["global"]["evaluation_interval"] = "1s"
    config["rule_files"] = [str(KIT / "rules.yaml")]
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        job["http_sd_configs"] = [cluster.discovery()]
    config["scrape_configs"] += jobs
    return programs.prometheus_of(config, web)
