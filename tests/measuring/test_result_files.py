"""Result files of vLLM's benchmarks and of llama-bench, in every format that they write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from advisor_mcp.errors import UsageError
from advisor_mcp.measuring.logs import read_samples
from advisor_mcp.measuring.samples import Samples, Spread

SERVE: dict[str, Any] = {
    "date": "20261121-101112", "backend": "vllm", "model_id": "m", "num_prompts": 1000, "duration": 100.0, "completed": 1000,
    "total_input_tokens": 1, "total_output_tokens": 1, "request_throughput": 10.0, "request_goodput": None,
    "output_throughput": 2500.0, "total_token_throughput": 5000.0, "latencies": [1.0, 2.0], "median_ttft_ms": 110.5, "p99_itl_ms": 30.0,
}  # fmt: skip
SERVE_TEXT = """============ Serving Benchmark Result ============
Successful requests:                     1000
Benchmark duration (s):                  100.00
Request throughput (req/s):              10.00
Output token throughput (tok/s):         2500.00
Peak output token throughput (tok/s):    9999.00
Total token throughput (tok/s):          5000.00
---------------Time to First Token----------------
Mean TTFT (ms):                          120.00
Median TTFT (ms):                        110.50
==================================================
"""


@pytest.mark.parametrize(("text", "metric", "expected"), [
    (json.dumps(SERVE), None, Samples("vLLM output_throughput", "tokens_per_s", (2500,), True)),
    (json.dumps(SERVE), "median_ttft_ms", Samples("vLLM median_ttft_ms", "ms", (110.5,), True)),
    (json.dumps(SERVE), "duration", Samples("vLLM duration", "ms", (100_000,), True)),
    # a request's latency is no repetition of the run
    (json.dumps(SERVE), "latencies", Samples("vLLM latencies", "ms", (1000, 2000))),
    # --append-result writes one object a line; a sweep writes a list
    (json.dumps(SERVE) + "\n" + json.dumps(SERVE | {"output_throughput": 2600.0}), None, Samples("vLLM output_throughput", "tokens_per_s", (2500, 2600), True)),
    (json.dumps([SERVE, SERVE]), "request_throughput", Samples("vLLM request_throughput", "requests_per_s", (10, 10), True)),
    ('{"model_id": "m", "avg_latency": 1.5, "latencies": [1.4, 1.6], "percentiles": {"50": 1.5}}', None, Samples("vLLM latencies", "ms", (1400, 1600), True)),
    ('{"elapsed_time": 20.0, "num_requests": 100, "total_num_tokens": 4000, "requests_per_second": 5.0, "tokens_per_second": 200.0}', None, Samples("vLLM tokens_per_second", "tokens_per_s", (200,), True)),
    (SERVE_TEXT * 2, None, Samples("vLLM output_throughput", "tokens_per_s", (2500, 2500), True)),
    (SERVE_TEXT, "median_ttft_ms", Samples("vLLM median_ttft_ms", "ms", (110.5,), True)),
    ("Throughput: 5.00 requests/s, 200.00 total tokens/s, 100.00 output tokens/s\n", None, Samples("vLLM tokens_per_second", "tokens_per_s", (200,), True)),
    ("Avg latency: 1.5 seconds\n10% percentile latency: 1.4 seconds\n", None, Samples("vLLM avg_latency", "ms", (1500,), True)),
])  # fmt: skip
def test_each_result_of_a_vllm_benchmark_is_a_repetition(text: str, metric: str | None, expected: Samples) -> None:
    assert read_samples(text, metric) == expected


def test_a_metric_that_the_result_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UsageError) as caught:
        read_samples(json.dumps(SERVE), "median_tpot_ms")
    assert caught.value.message == (
        "the result holds duration, request_throughput, output_throughput, total_token_throughput, latencies, median_ttft_ms, "
        "p99_itl_ms; metric 'median_tpot_ms' is none of them"
    )


def llama(test: tuple[int, int, int], samples_ns: list[int], **changed: Any) -> dict[str, Any]:
    prompt, generated, depth = test
    speeds = [1e9 * (prompt + generated) / time for time in samples_ns]
    return {
        "build_commit": "8cf427ff", "model_type": "qwen2 7B Q4_K - Medium", "n_batch": 2048, "flash_attn": -1, "n_prompt": prompt,
        "n_gen": generated, "n_depth": depth, "test_time": "2025-04-24T11:58:50Z", "avg_ns": 1, "stddev_ns": 1,
        "avg_ts": sum(speeds) / len(speeds), "stddev_ts": 2.5, "samples_ns": samples_ns, "samples_ts": speeds, **changed,
    }  # fmt: skip


PROMPT, GENERATION = llama((512, 0, 0), [100_000_000, 80_000_000]), llama((0, 128, 512), [1_000_000_000, 1_280_000_000])


@pytest.mark.parametrize(
    "text", [json.dumps([PROMPT, GENERATION], indent=1), json.dumps(PROMPT) + "\n" + json.dumps(GENERATION) + "\n"]
)
def test_llama_bench_json_keeps_every_repetition(text: str) -> None:
    assert read_samples(text, "pp512") == Samples("llama-bench pp512", "tokens_per_s", (5120, 6400), True)
    assert read_samples(text, "tg128 @ d512") == Samples("llama-bench tg128@d512", "tokens_per_s", (128, 100), True)


MARKDOWN = """
| model                          |       size |     params | backend    | ngl |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------: | -------------------: |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           pp512 |      7340.20 ± 23.45 |
| qwen2 7B Q4_K - Medium         |   4.36 GiB |     7.62 B | CUDA       |  -1 |           tg128 |        120.60 ± 0.59 |

build: 8cf427ff (5163)
"""
COLUMNS = (
    "build_commit",
    "model_type",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
)
ROWS = (
    ("8cf427ff", "a, b", 512, 0, 0, "2025-04-24T11:57:09Z", 70, 1, 7340.2, 23.45),
    ("8cf427ff", "a, b", 0, 128, 0, "2025-04-24T11:57:10Z", 1067, 4, 120.6, 0.59),
)
CSV = "\n".join([",".join(COLUMNS), *(",".join(f'"{cell}"' for cell in row) for row in ROWS)]) + "\n"
SQL = "CREATE TABLE IF NOT EXISTS llama_bench (\n  build_commit TEXT\n);\n\n" + "".join(
    f"INSERT INTO llama_bench ({', '.join(COLUMNS)}) VALUES ({', '.join(repr(str(cell)) for cell in row)});\n"
    for row in ROWS
)


@pytest.mark.parametrize("text", [MARKDOWN, CSV, SQL], ids=["md", "csv", "sql"])
def test_the_other_formats_of_llama_bench_keep_a_mean_and_a_deviation(text: str) -> None:
    note = "a mean and a standard deviation without samples, taken as 5 repetitions (llama-bench's default)"
    assert read_samples(text, "tg128") == Samples(
        "llama-bench tg128", "tokens_per_s", (120.6,), True, spread=Spread(0.59, 5), notes=(note,)
    )
    with pytest.raises(
        UsageError, match=r"^the llama-bench output holds the tests pp512, tg128; name one of them as metric$"
    ):
        read_samples(text)


def test_means_of_several_invocations_are_repetitions() -> None:
    rows = [
        {k: v for k, v in PROMPT.items() if not k.startswith("samples")} | {"avg_ts": speed} for speed in (100.0, 102.0)
    ]
    assert read_samples(json.dumps(rows)) == Samples("llama-bench pp512", "tokens_per_s", (100, 102), True)


def test_rows_of_one_test_with_different_settings_are_several_runs() -> None:
    with pytest.raises(
        UsageError, match=r"holds 2 rows of pp512 that differ in n_batch, flash_attn; give each as its own run"
    ):
        read_samples(json.dumps([PROMPT, PROMPT | {"n_batch": 512, "flash_attn": 1}]))
