"""compare_runs: whether one run is faster than another, by how much, and how sure that is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from advisor_mcp.declaration import Example, Tool
from advisor_mcp.measuring.comparison import compare
from advisor_mcp.measuring.inputs import Reading, listed, read_runs
from advisor_mcp.measuring.report import RunComparison, report
from advisor_mcp.results import Detail

Values = str | list[float | str]
Unit = Literal[
    "s", "ms", "us", "ns", "tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s", "requests_per_s", "steps_per_s"
]


def compare_runs(
    runs: Annotated[
        list[Values | dict[str, Values]],
        BeforeValidator(listed),
        Field(
            description="Two or more, the first the baseline: numbers, a log or result file (path or text), several files as "
            "repetitions, or {name: any of these}"
        ),
    ],
    metric: Annotated[
        str | None,
        Field(description="Figure of a result file, e.g. output_throughput, median_ttft_ms, tg128, a column"),
    ] = None,
    unit: Annotated[Unit | None, Field(description="Of plain numbers; times of one unit when left out")] = None,
    higher_is_better: Annotated[bool | None, Field(description="For plain numbers without a unit")] = None,
    baseline: Annotated[str | None, Field(description="Name of the run to compare with")] = None,
    warm_up: Annotated[
        int | None, Field(ge=0, description="Values to leave out at each start; found when left out")
    ] = None,
    detail: Annotated[Detail, Field(description="full adds derivations and all outliers")] = "brief",
) -> RunComparison:
    """Whether runs differ in speed, by how much, with an interval. Reads step times and speeds from logs of torchtitan,
    Megatron-LM, Hugging Face, nanoGPT, DeepSpeed, torchtune, from vLLM bench and llama-bench results, or numbers; removes
    warm-up, tests, and says what the samples cannot show and how many more would.
    """
    found = read_runs(runs, Reading(metric, unit, higher_is_better, warm_up))
    return report(compare(found, baseline, warm_up), detail)


TOOL = Tool(
    function=compare_runs,
    title="Compare runs",
    toolset="performance",
    positional=("runs",),
    examples=(
        Example(
            "Five benchmark runs before and five after: is it faster?",
            {"runs": [[102.1, 99.8, 101.0, 100.4, 100.9], [96.8, 97.5, 96.1, 97.0, 97.9]], "unit": "ms"},
            # medians 100.9 and 97.0 ms
            {"comparisons.0.verdict": "faster", "comparisons.0.speed_change_percent": 4.02, "baseline": "A"},
        ),
        Example(
            "Do these throughputs differ?",
            {"runs": [{"before": [3012, 2988, 3040, 3001, 2969]}, {"after": [3020, 2975, 3061, 3008, 2990]}], "unit": "tokens_per_s"},
            # medians 3,001 and 3,008: 0.233 % apart, with spreads of about 1 %
            {"comparisons.0.verdict": "no_difference_shown", "comparisons.0.speed_change_percent": 0.233},
        ),
        Example("Did the change speed up training?", {"runs": ["before.log", "after.log"]}, needs="the two log files"),
    ),
)  # fmt: skip
