"""Result files of benchmarks: `vllm bench serve|throughput|latency` and llama-bench in all its output formats."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advisor_mcp.errors import UsageError, shown
from advisor_mcp.measuring.samples import Samples, SampleUnit, Spread
from advisor_mcp.measuring.training_logs import without_colours

Record = Mapping[str, Any]

LLAMA_REPETITIONS = 5
"""llama-bench's default of -r (ggml-org/llama.cpp tools/llama-bench/llama-bench.cpp); its md, csv and sql do not state it."""

# vLLM 0.33.0 benchmarks/serve.py, throughput.py, latency.py: the label that is printed and the key of the JSON file.
# The first that a file has is taken where no metric is named.
_SERVE = "Serving Benchmark Result"
_PRINTED: tuple[tuple[str, str], ...] = (
    ("output_throughput", r"Output token throughput \(tok/s\):"),
    ("total_token_throughput", r"Total token throughput \(tok/s\):"),
    ("request_throughput", r"Request throughput \(req/s\):"),
    ("duration", r"Benchmark duration \(s\):"),
    *(
        (f"{statistic.lower()}_{key}_ms", rf"{statistic} {metric} \(ms\):")
        for key, metric in (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2el", "E2EL"))
        for statistic in ("Mean", "Median", "P99")
    ),
    ("tokens_per_second", r"Throughput: [0-9.]{1,20} requests/s,"),
    ("avg_latency", r"Avg latency:"),
)
_TABLES = {metric: re.compile(label + r" {0,40}([0-9]{1,15}(?:\.[0-9]{0,20})?)") for metric, label in _PRINTED}
_DEFAULTS = ("output_throughput", "tokens_per_second", "request_throughput", "latencies", "avg_latency")
_LISTS = ("latencies", "ttfts")
_UNITS: Mapping[str, tuple[SampleUnit, float]] = {
    "output_throughput": ("tokens_per_s", 1.0),
    "total_token_throughput": ("tokens_per_s", 1.0),
    "tokens_per_second": ("tokens_per_s", 1.0),
    "request_throughput": ("requests_per_s", 1.0),
    "request_goodput": ("requests_per_s", 1.0),
    "requests_per_second": ("requests_per_s", 1.0),
    **dict.fromkeys(("duration", "elapsed_time", "avg_latency", *_LISTS), ("ms", 1e3)),
}
_MARKS = ("avg_latency", "tokens_per_second", "request_throughput")  # what a result of latency, throughput, serve holds
_MILLISECONDS = re.compile(r"(?:mean|median|std|p[0-9.]{1,6})_\w{1,40}_ms")


def read_vllm(records: Sequence[Record], metric: str | None) -> Samples | None:
    """Result objects of vLLM's benchmarks, a repetition each; None where they are something else.

    A latency file lists its iterations, which vLLM took after a warm-up of its own. Raises `UsageError` for a metric that
    the files do not have.
    """
    if not records or not all(any(mark in record for mark in _MARKS) for record in records):
        return None
    known = [name for name in records[0] if _usable(name, records[0][name])]
    # a serving result also lists the latencies of its requests, which no run is compared by unless asked
    chosen = metric or next(name for name in (*_DEFAULTS, *known) if name in known)
    if chosen not in known:
        raise UsageError(f"the result holds {', '.join(known)}; metric {shown(metric)} is none of them")
    unit, scale = _UNITS.get(chosen, ("ms", 1.0))
    values = [value for record in records for value in _as_list(record.get(chosen))]
    requests = chosen in _LISTS and "request_throughput" in records[0]
    return Samples(f"vLLM {chosen}", unit, tuple(value * scale for value in values if value > 0), not requests)


def _usable(name: str, value: Any) -> bool:
    known = name in _UNITS or bool(_MILLISECONDS.fullmatch(name))
    return known and any(found > 0 for found in _as_list(value))


def _as_list(value: Any) -> list[float]:
    listed = value if isinstance(value, list) else [value]
    return [float(v) for v in listed if isinstance(v, int | float) and not isinstance(v, bool)]


def read_vllm_text(log: str, metric: str | None) -> Samples | None:
    """What vLLM's benchmarks print, a repetition for each printed result."""
    text = without_colours(log)
    found = {name: _printed(expression, text) for name, expression in _TABLES.items()}
    found = {name: values for name, values in found.items() if values}
    latency = "avg_latency" in found and "percentile latency:" in text
    if not (_SERVE in text or "tokens_per_second" in found or latency):
        return None
    most = max(len(values) for values in found.values())
    return read_vllm(
        [{name: values[at] for name, values in found.items() if at < len(values)} for at in range(most)], metric
    )


def _printed(expression: re.Pattern[str], text: str) -> list[float]:
    return [float(match) for match in expression.findall(text)]


# ---- llama-bench ----

_MEASURED = frozenset({"test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts", "t/s"})


def read_llama(records: Sequence[Record], metric: str | None) -> Samples | None:
    """llama-bench's results (tests such as pp512 and tg128, chosen by `metric`), speeds in tokens per second.

    JSON keeps every repetition; the other formats only a mean and a standard deviation. Raises `UsageError` where the test
    is open, or where rows of one test differ in a setting and so are several runs.
    """
    if not records or not all("avg_ts" in record or "t/s" in record for record in records):
        return None
    tests: dict[str, list[Record]] = {}
    for record in records:
        tests.setdefault(_test(record), []).append(record)
    chosen = metric.replace(" ", "") if metric else next(iter(tests)) if len(tests) == 1 else ""
    if chosen not in tests:
        raise UsageError(f"the llama-bench output holds the tests {', '.join(tests)}; name one of them as metric")
    same = tests[chosen]
    if differing := _differing(same):
        raise UsageError(
            f"the llama-bench output holds {len(same)} rows of {chosen} that differ in {differing}; give each as its own run"
        )
    return _llama_samples(f"llama-bench {chosen}", same)


def _llama_samples(form: str, records: Sequence[Record]) -> Samples:
    if all(record.get("samples_ns") for record in records):
        values = [_tokens(record) * 1e9 / nanoseconds for record in records for nanoseconds in record["samples_ns"]]
        return Samples(form, "tokens_per_s", tuple(values), repetitions=True)
    means = tuple(float(record.get("avg_ts") or _mean_deviation(record)[0]) for record in records)
    if len(records) > 1:
        return Samples(form, "tokens_per_s", means, repetitions=True)
    deviation = float(records[0].get("stddev_ts") or _mean_deviation(records[0])[1])
    note = f"a mean and a standard deviation without samples, taken as {LLAMA_REPETITIONS} repetitions (llama-bench's default)"
    return Samples(form, "tokens_per_s", means, True, spread=Spread(deviation, LLAMA_REPETITIONS), notes=(note,))


def _mean_deviation(record: Record) -> tuple[float, float]:
    mean, _, deviation = str(record.get("t/s", "0 ± 0")).partition("±")
    return float(mean), float(deviation or 0)


def _tokens(record: Record) -> int:
    return int(record["n_prompt"]) + int(record["n_gen"])


def _test(record: Record) -> str:
    """The test's name as llama-bench's table prints it, without blanks: ``pp512``, ``tg128@d512``, ``pp512+tg128``."""
    if "test" in record:
        return str(record["test"]).replace(" ", "")
    prompt, generated, depth = (int(record.get(key) or 0) for key in ("n_prompt", "n_gen", "n_depth"))
    parts = ([f"pp{prompt}"] if prompt else []) + ([f"tg{generated}"] if generated else [])
    return "+".join(parts) + (f"@d{depth}" if depth else "")


def _differing(records: Sequence[Record]) -> str:
    settings = [name for name in records[0] if name not in _MEASURED]
    return ", ".join(name for name in settings if len({str(record.get(name)) for record in records}) > 1)


def llama_rows(text: str) -> list[Record]:
    """The rows of llama-bench's Markdown, CSV or SQL output, an empty list for any other text."""
    header = text.lstrip().partition("\n")[0]
    try:
        if "INSERT INTO llama_bench" in text:
            return [row for line in text.splitlines() if (row := _sql_row(line))]
        if "avg_ts" in header and "n_prompt" in header:
            return [row for row in csv.DictReader(io.StringIO(text.lstrip())) if row.get("avg_ts")]
    except csv.Error:
        return []
    return list(_markdown_rows(text))


def _sql_row(line: str) -> Record | None:
    """The values of ``INSERT INTO llama_bench (a, b) VALUES ('1', '2');`` by name."""
    names, found, values = line.partition(") VALUES (")
    if not found or not names.startswith("INSERT INTO llama_bench ("):
        return None
    cells = next(csv.reader([values.rstrip().removesuffix(");")], quotechar="'", skipinitialspace=True))
    return dict(zip(names.partition("(")[2].split(", "), cells, strict=False))


def _markdown_rows(text: str) -> Iterable[Record]:
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "t/s" in cells and "test" in cells:
            header = cells
        elif len(cells) == len(header) and "±" in cells[header.index("t/s")]:
            yield dict(zip(header, cells, strict=True))


def json_records(text: str) -> list[Any] | None:
    """The JSON values of a text: one, or one a line; None where it is not JSON.

    A list of objects counts as its objects, as llama-bench and vLLM's sweeps write them.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        found = json.loads(text, parse_int=float)  # no integer is then too large to calculate with
    except (ValueError, RecursionError):
        return _json_lines(text)
    return found if isinstance(found, list) else [found]


def _json_lines(text: str) -> list[Any] | None:
    try:
        return [json.loads(line, parse_int=float) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None
