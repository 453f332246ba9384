"""Reads exposition bodies with the parsers of the official Python client: lenient for text, strict for OpenMetrics.

What goes in and what comes out is as in the Go program; ../README.md says it.
"""

import base64
import json
import math
import sys
from decimal import Decimal

from prometheus_client import parser as text
from prometheus_client.openmetrics import parser as open_metrics

PARSERS = {"text/plain": text, "application/openmetrics-text": open_metrics}


def number(value):
    """The shortest text of a value, as Go's format `g` has it."""
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    exact = Decimal(repr(value))
    exponent = exact.adjusted()
    if value == 0 or -4 <= exponent < 6:
        plain = f"{exact:f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    digits = "".join(map(str, exact.as_tuple().digits)).rstrip("0")
    fraction = f".{digits[1:]}" if digits[1:] else ""
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[0]}{fraction}e{exponent:+03d}"


def milliseconds(timestamp):
    return None if timestamp is None else round(float(timestamp) * 1000)


def seen_exemplars(exemplar):
    if exemplar is None:
        return []
    return [
        {
            "labels": exemplar.labels,
            "value": number(exemplar.value),
            "timestamp_ms": milliseconds(exemplar.timestamp),
        }
    ]


def seen_sample(sample, kind):
    seen = {
        "name": sample.name,
        "labels": sample.labels,
        "timestamp_ms": milliseconds(sample.timestamp),
        "start_ms": None,
        "type": kind,
        "exemplars": seen_exemplars(sample.exemplar),
    }
    if sample.native_histogram is None:
        seen["value"] = number(sample.value)
    else:
        seen["histogram"] = repr(sample.native_histogram)
    return seen


def read(parser, body):
    """What the parser sees: what stands before the fault, if there is one."""
    samples, families, error = [], {}, None
    try:
        for family in parser.text_string_to_metric_families(body.decode()):
            families[family.name] = {"type": family.type, "help": family.documentation, "unit": family.unit}
            samples.extend(seen_sample(sample, family.type) for sample in family.samples)
    # Whatever it raises is how it refuses: ValueError mostly, IndexError and others where it did not think of it.
    except Exception as refusal:  # pylint: disable=broad-exception-caught
        error = f"{type(refusal).__name__}: {refusal}"
    return {"error": error, "samples": samples, "families": families}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        parser = PARSERS.get(request["content_type"].partition(";")[0].strip())
        body = base64.b64decode(request["body"])
        readings = {} if parser is None else {"prometheus_client": read(parser, body)}
        print(json.dumps(readings), flush=True)


if __name__ == "__main__":
    main()
