#!/usr/bin/env python3
"""Checks conversions with the official Python client (PyPI prometheus-client, from 0.23 on) as the reader.

In, on standard input, one JSON object a line:

    {"in_format": "openmetrics", "in": "...", "out_format": "text", "out": "...", "added": {"service_name": "iris"}}

Both bodies are parsed by the client. What comes out must have the samples of what went in, with the labels added, and
the types, help texts, units and exemplars that the client itself would write in that format.

With --convert PROGRAM (target/debug/examples/convert), the cases are made instead of read: every body of the OpenMetrics
suite that should parse (--corpus FOLDER), and bodies that the client itself writes.
"""

import argparse
import collections
import json
import math
import pathlib
import re
import subprocess
import sys

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client import core, exposition, parser
from prometheus_client.openmetrics import exposition as om_exposition
from prometheus_client.openmetrics import parser as om_parser

# What a sample is, whoever wrote it: its family's type included.
Sample = collections.namedtuple("Sample", "name labels value timestamp type exemplar")
# What is said of a family.
Family = collections.namedtuple("Family", "name type documentation unit")

# Parts that in text are gauge families of their own (`generate_latest` of the client).
PARTS = ("_created", "_gsum", "_gcount")
# The text format has five types, and the client reads `untyped` as `unknown`.
TEXT_TYPES = {"info": "gauge", "stateset": "gauge", "gaugehistogram": "histogram"}
# Exclusively, the largest time in milliseconds that the text format has.
TIMES = 2**63


def read(fmt, body):
    """The families of a body, as the client reads them."""
    if fmt == "openmetrics":
        return list(om_parser.text_string_to_metric_families(body))
    return list(parser.text_string_to_metric_families(regrouped(body)))


def regrouped(body):
    """A text body with the lines of each family side by side: only so does the client's parser give all their type.

    Prometheus reads them in any order, and one that comes as it is read has the parts of OpenMetrics in between.
    """
    types = dict(re.findall(r"^# TYPE (\S+|\"(?:[^\"\\]|\\.)*\") (\w+)$", body, re.MULTILINE))
    types = {plain(name): kind for name, kind in types.items()}
    groups = {}
    for line in body.splitlines(keepends=True):
        match = re.match(r"# (?:HELP|TYPE) (\"(?:[^\"\\]|\\.)*\"|\S+)", line) or re.match(
            r"\{(\"(?:[^\"\\]|\\.)*\")", line
        )
        name = plain(match[1]) if match else re.match(r"[^{\s]*", line)[0]
        for suffix in ("_bucket", "_sum", "_count"):
            parent = name.removesuffix(suffix)
            if name not in types and types.get(parent) in ("histogram", "summary"):
                name = parent
        groups.setdefault(name, []).append(line)
    return "".join(line for lines in groups.values() for line in lines)


def plain(name):
    """A name without its quotes."""
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if name.startswith('"') else name


def number(value):
    """A number that equals itself."""
    return "NaN" if math.isnan(value) else float(value)


def milliseconds(timestamp):
    """A timestamp in whole milliseconds, cut as the client cuts it."""
    return None if timestamp is None else int(float(timestamp) * 1000)


def described(families, to_text):
    """The samples and the families, as the client would write them in the format."""
    samples, said, seen = [], set(), set()
    for metric in families:
        name, kind, unit = metric.name, metric.type, metric.unit
        if to_text:
            # The client's parser of text takes the ending off a counter's name again.
            name = name + "_info" if kind == "info" else name
            kind, unit = TEXT_TYPES.get(kind, kind), ""
        said.add(Family(name, kind, metric.documentation, unit))
        for sample in metric.samples:
            exemplar, sample_kind = sample.exemplar, kind
            timestamp = milliseconds(sample.timestamp) if to_text else sample.timestamp and float(sample.timestamp)
            if to_text:
                exemplar = None
                part = next((part for part in PARTS if sample.name == metric.name + part), None)
                if part is not None:
                    sample_kind = "gauge"
                    said.add(Family(sample.name, "gauge", metric.documentation, ""))
                if timestamp is not None and not 0 <= timestamp < TIMES:
                    continue
            if exemplar is not None:
                at = exemplar.timestamp and float(exemplar.timestamp)
                exemplar = (tuple(sorted(exemplar.labels.items())), number(exemplar.value), at)
            labels = tuple(sorted(sample.labels.items()))
            if to_text and (sample.name, labels, timestamp) in seen:
                # Of a series' samples with one time, the client reads the first: but only in OpenMetrics.
                continue
            seen.add((sample.name, labels, timestamp))
            samples.append(Sample(sample.name, labels, number(sample.value), timestamp, sample_kind, exemplar))
    return samples, said


def labelled(sample, added, escaping):
    """The sample with the labels added, its own of these names renamed."""
    renamed = [(plain(om_exposition.escape_label_name(name, escaping)), value) for name, value in sample.labels]
    own = {name for name, _ in renamed}
    labels = {}
    for name, value in renamed:
        if name in added:
            while name in added or name in own or name in labels:
                name = "exported_" + name
        labels[name] = value
    name = plain(om_exposition.escape_metric_name(sample.name, escaping))
    return sample._replace(name=name, labels=tuple(sorted({**labels, **added}.items())))


def check(case):
    """What is wrong with a conversion, in lines; nothing, if it is right. None, if the client does not read the input."""
    to_text = case["out_format"] == "text"
    escaping = case.get("escaping", om_exposition.UNDERSCORES)
    try:
        before = read(case["in_format"], case["in"])
    except ValueError:
        return None
    try:
        after = read(case["out_format"], case["out"])
    except ValueError as error:
        return [f"the client does not read what came out: {error}"]
    samples, families = described(before, to_text)
    expected = collections.Counter(labelled(sample, case["added"], escaping) for sample in samples)
    expected_families = {
        family._replace(name=plain(om_exposition.escape_metric_name(family.name, escaping))) for family in families
    }
    # What came out is in its format's own words by now.
    samples, families = described(after, to_text)
    samples = collections.Counter(samples)
    wrong = [f"missing: {sample}" for sample in (expected - samples)]
    wrong += [f"not expected: {sample}" for sample in (samples - expected)]
    # Of a family that nothing is said of, there need be nothing.
    wrong += [f"missing: {family}" for family in expected_families - families if not is_silent(family)]
    wrong += [f"not expected: {family}" for family in families - expected_families if not is_silent(family)]
    return wrong


def is_silent(family):
    """Whether nothing is said of a family."""
    return family.type == "unknown" and not family.documentation and not family.unit


class Families:
    """Metrics that the client's instruments do not make."""

    def __init__(self, *families):
        self.families = families

    def collect(self):
        return self.families


def registries():
    """What applications register: every type, and everything that is hard to write."""
    registry = CollectorRegistry()
    odd = 'back\\slash, "quotes", two\nlines, {a="b"} # {c="d"} 1 \u00e9 \U0001f525 \\n'
    requests = Counter("http_requests", f"Requests. {odd}", ["path", "code"], registry=registry)
    requests.labels("/v1/models/{name}:predict", "200").inc(3.5, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})
    requests.labels(odd, "500").inc(1, {"trace_id": odd.replace("\n", ""), "span": "7"})
    Counter("never_touched", "Without a sample.", ["label"], registry=registry)
    Counter("plain", "", registry=registry).inc()
    temperature = Gauge("room_celsius", "With a unit.", unit="celsius", registry=registry)
    temperature.set(float("nan"))
    limits = Gauge("limits", "Numbers at the edge.", ["edge"], registry=registry)
    for edge in (math.inf, -math.inf, 1e-320, 1.7976931348623157e308, -0.0, 123456789.125, 1e21):
        limits.labels(str(edge)).set(edge)
    latency = Histogram("latency", "How long.", ["route"], unit="seconds", registry=registry, buckets=(0.1, 1, 10))
    for value in (0.05, 0.5, 5, 50):
        latency.labels("/").observe(value, {"trace_id": str(value)})
    Summary("sizes", "How big.", unit="bytes", registry=registry).observe(12)
    Info("build", "What runs.", registry=registry).info({"version": "1.2.3", "odd": odd})
    Enum("door", "Is it open?", ["house"], states=["open", "closed"], registry=registry).labels("mine").state("open")
    yield "instruments", registry

    registry = CollectorRegistry()
    quartiles = core.SummaryMetricFamily("quartiles", "Quantiles.", labels=["a"])
    quartiles.add_metric(["b"], 4, 10, timestamp=1520879607.789)
    quartiles.add_sample("quartiles", {"a": "b", "quantile": "0.5"}, 2.5, 1520879607.789)
    gauges = core.GaugeHistogramMetricFamily("queue", "Rises and falls.", labels=["a"], unit="")
    gauges.add_metric(["b"], [("1", 2), ("+Inf", 5)], 7.5)
    unknown = core.UnknownMetricFamily("nobody_knows", "Unknown.", value=5)
    states = core.StateSetMetricFamily("states", "States.", labels=["a"])
    states.add_metric(["b"], {"on": True, "off": False})
    counted = core.CounterMetricFamily("counted", "With a creation.", labels=["a"], created=1520872607.123)
    counted.add_metric(["b"], 17, created=1520872607.123, timestamp=1520879607)
    counted.add_metric(["c"], 18, created=1520872608, timestamp=0.0005)
    registry.register(Families(quartiles, gauges, unknown, states, counted))
    yield "families", registry

    registry = CollectorRegistry()
    collisions = Gauge("collisions", "", ["service_name", "exported_service_name", "le"], registry=registry)
    collisions.labels("own", "theirs", "1").set(1)
    Counter("process_created", "Ends as a part does.", registry=registry).inc(2)
    Gauge("a_bucket", "Ends as another part does.", registry=registry).set(3)
    yield "collisions", registry

    registry = CollectorRegistry()
    dotted = Counter("http.server.requests", "Dots. \"Quotes\".", ["http.route"], registry=registry)
    dotted.labels("/").inc(1, {"trace_id": "1"})
    Histogram("gr\u00f6\u00dfe", "Not ASCII.", ["a"], registry=registry).labels("b").observe(1)
    yield "utf8", registry


def run(program, source, target, escaping, added, body):
    """What the engine makes of a body."""
    command = [program, "--from", source, "--to", target]
    if escaping == om_exposition.ALLOWUTF8:
        command.append("--utf8")
    for name, value in added.items():
        command += ["--label", f"{name}={value}"]
    done = subprocess.run(command, input=body.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.decode()}")
    return done.stdout.decode()


def case(program, name, source, target, escaping, body):
    """One conversion, run."""
    added = {"service_name": "iris", "revision_name": "iris-00001"}
    return {
        "name": f"{name}, {source} as {target}, {escaping}",
        "in_format": source,
        "in": body,
        "out_format": target,
        "out": run(program, source, target, escaping, added, body),
        "added": added,
        "escaping": escaping,
    }


def cases(program, corpus):
    """Conversions of real bodies and of the client's own."""
    both = ("openmetrics", "text")
    for escaping in (om_exposition.UNDERSCORES, om_exposition.ALLOWUTF8):
        for test in sorted(corpus.glob("openmetrics/*/test.json")) if corpus else []:
            told = json.loads(test.read_text())
            if told["shouldParse"]:
                body = (test.parent / told["file"]).read_text()
                for target in both:
                    yield case(program, test.parent.name, "openmetrics", target, escaping, body)
        for name in ("recorded/kserve-python.om", "recorded/kserve-python.prom") if corpus else ():
            body = (corpus / name).read_text()
            for target in both if name.endswith(".om") else ("text",):
                yield case(program, name, "openmetrics" if name.endswith(".om") else "text", target, escaping, body)
        for name, registry in registries():
            # A body with names of any kind, whatever the scraper reads.
            utf8 = om_exposition.ALLOWUTF8
            body = om_exposition.generate_latest(registry, escaping=utf8, version="1.0.0").decode()
            for target in both:
                yield case(program, name, "openmetrics", target, escaping, body)
            text = exposition.generate_latest(registry, escaping=utf8).decode()
            yield case(program, name, "text", "text", escaping, text)


def same_text(program):
    """What is wrong with bodies that the client writes in both formats: without labels, line for line the same text."""
    for escaping in (om_exposition.UNDERSCORES, om_exposition.ALLOWUTF8):
        for name, registry in registries():
            utf8 = om_exposition.ALLOWUTF8
            body = om_exposition.generate_latest(registry, escaping=utf8, version="1.0.0").decode()
            ours = collections.Counter(run(program, "openmetrics", "text", escaping, {}, body).splitlines())
            # The client writes the parts of each family at its end, and the engine where they come.
            theirs = collections.Counter(exposition.generate_latest(registry, escaping=escaping).decode().splitlines())
            wrong = [f"missing: {line}" for line in theirs - ours] + [f"not expected: {line}" for line in ours - theirs]
            yield f"{name}, line for line, {escaping}", wrong


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--convert", metavar="PROGRAM", help="make the cases with this program")
    arguments.add_argument("--corpus", metavar="FOLDER", type=pathlib.Path, help="where real bodies lie")
    arguments = arguments.parse_args()
    corpus = arguments.corpus if arguments.corpus and arguments.corpus.is_dir() else None
    if arguments.convert:
        results = [(made["name"], check(made)) for made in cases(arguments.convert, corpus)]
        results += same_text(arguments.convert)
    else:
        results = [(f"line {number}", check(json.loads(line))) for number, line in enumerate(sys.stdin, 1)]
    for name, wrong in results:
        if wrong is None:
            print(f"{name}: the client does not read the input")
        for what in wrong or ():
            print(f"{name}: {what}")
    failed = sum(bool(wrong) for _, wrong in results)
    unread = sum(wrong is None for _, wrong in results)
    print(f"{len(results)} conversions: {failed} wrong, {unread} of a body that the client does not read")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
