"""compare_runs: whether one run is faster than another, by how much, and how sure that is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from advisor_mcp import arguments
from advisor_mcp.declaration import Example, Tool
from advisor_mcp.measuring.comparison import compare
from advisor_mcp.measuring.inputs import Reading, listed, read_runs
from advisor_mcp.measuring.report import RunComparison, report

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
    detail: arguments.Detail = "brief",
) -> RunComparison:
    """Whether runs differ in speed, by how much, with an interval. Reads step times and speeds from logs of torchtitan,
    Megatron-LM, Hugging Face, nanoGPT, DeepSpeed, torchtune, from vLLM bench and llama-bench results, or numbers; removes
    warm-up, tests, and says what the samples cannot show and how many more would.
    """
    found = read_runs(runs, Reading(metric, unit, higher_is_better, warm_up))
    return report(compare(found, baseline, warm_up), detail)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


_MEGATRON: dict[str, Any] = {
    name: "\n".join(
        f" iteration {step:8d}/ 500 | elapsed time per iteration (ms): {ms} | global batch size: 512 |"
        for step, ms in enumerate(times.split(), 1)
    )
    for name, times in {
        "before": "9412.7 812.4 809.9 811.3 810.6 812.9 811.1 810.2 1630.5 811.8 809.5 812.2",
        "after": "9538.1 771.6 770.4 772.9 771.2 770.8 773.1 770.9 771.4 772.2 1588.0 771.9",
    }.items()
}

TOOL = Tool(
    function=compare_runs,
    title="Compare runs",
    toolset="performance",
    positional=("runs",),
    examples=(
        Example(
            "Five benchmark runs before and five after: is it faster?",
            {"runs": [_numbers("102.1 99.8 101.0 100.4 100.9"), _numbers("96.8 97.5 96.1 97.0 97.9")], "unit": "ms"},
            # medians 100.9 and 97.0 ms
            {"comparisons.0.verdict": "faster", "comparisons.0.speed_change_percent": 4.02, "baseline": "A"},
        ),
        Example(
            "Did fusing the optimizer speed up these Megatron-LM steps?",
            {"runs": [{"before": _MEGATRON["before"]}, {"after": _MEGATRON["after"]}]},
            # the first iteration is left out; of the other eleven the medians are 811.3 and 771.6 ms
            {
                "comparisons.0.verdict": "faster",
                "comparisons.0.median_ratio": 0.95107,
                "runs.0.removed": 1,
                "runs.0.outliers": 1,
            },
        ),
    ),
)
