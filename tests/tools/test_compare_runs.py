"""compare_runs as a caller sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advisor_mcp
from advisor_mcp import access, cli, results
from advisor_mcp.declaration import BRIEF_BYTES, FULL_BYTES
from advisor_mcp.errors import AdvisorError, UsageError
from advisor_mcp.knowledge import find

FAST, SLOW = [1.0, 1.01, 0.99, 1.02, 0.98], [1.1, 1.11, 1.09, 1.12, 1.08]
ONE_START = "one start of each run: what differs from start to start (node, clocks, placement) is in no interval"


def ask(*runs: Any, **arguments: Any) -> dict[str, Any]:
    return advisor_mcp.call("compare_runs", runs=list(runs), **arguments).data()


def nanogpt(median: float, count: int = 40, seed: int = 0) -> str:
    times = median * np.exp(0.01 * np.random.default_rng(seed).standard_normal(count))
    return "".join(f"iter {step}: loss 2.8000, time {ms:.2f}ms, mfu 41.02%\n" for step, ms in enumerate(times))


def test_repetitions_are_compared_with_every_figure() -> None:
    # medians 1.1 and 1: 10 % faster; 2 of the 252 ways to share ten values out are as extreme
    found = ask(SLOW, FAST)
    row = found["comparisons"][0]
    low, high = row.pop("speed_change_percent_range")
    visible = row.pop("smallest_visible_percent")
    assert row == {
        "run": "B", "verdict": "faster", "speed_change_percent": 10.0, "median_ratio": 0.90909, "p": 0.0079,
    }  # fmt: skip
    assert 5 < low < 10 < high < 15
    assert 0 < visible < 10
    assert found["summary"] == f"B is 10.0 % faster than A (95 % interval {low:.1f} to {high:.1f} %)."
    assert (found["unit"], found["baseline"], found["warnings"]) == ("as given (lower is better)", "A", [])
    # the distances from 1.1 are 0, 0.01, 0.01, 0.02, 0.02: 0.01 / 0.6745 / 1.1
    assert found["runs"][0] == {
        "name": "A", "form": "numbers", "n": 5, "median": 1.1, "spread_percent": 1.3, "removed": 0,
        "warm_up": "repetitions: no warm-up is removed", "outliers": 0,
    }  # fmt: skip


def test_where_higher_is_better_the_same_numbers_turn_round() -> None:
    assert ask(SLOW, FAST, higher_is_better=True)["summary"].startswith("B is 9.1 % lower than A (95 % interval ")
    assert ask(SLOW, FAST, unit="tokens_per_s")["comparisons"][0]["verdict"] == "slower"


def test_no_difference_is_said_with_what_would_have_been_seen_and_what_would_settle_it() -> None:
    found = ask(nanogpt(250), nanogpt(250.5, seed=1))
    row = found["comparisons"][0]
    assert row["verdict"] == "no_difference_shown"
    assert found["summary"].startswith("No difference shown between B and A: B measured 0.")
    assert found["summary"].endswith(
        f"; {row['smallest_visible_percent']:.2g} % or more would probably have been seen."
    )
    assert found["next_measurement"].endswith(
        " more values of each run would show a difference of the size seen, if it is real"
    )
    assert found["warnings"] == [ONE_START]


def test_too_few_values_give_the_medians_and_what_is_missing() -> None:
    found = ask([1.0, 1.1], [2.0])
    assert found["comparisons"] == [
        {"run": "B", "verdict": "too_few_samples", "speed_change_percent": -47.5, "median_ratio": 1.9048}
    ]
    assert found["summary"] == (
        "Too few samples to compare B with A: 1 value and 2 values, and 4 independent ones of each are the fewest; "
        "the medians differ by 47.5 %."
    )
    assert found["next_measurement"].startswith("measure at least 10 values of each run")


def test_logs_are_named_by_their_files_and_files_of_one_name_by_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("old", "new"):
        Path(folder).mkdir()
        Path(folder, "train.log").write_text(nanogpt(250), encoding="utf-8")
    Path("faster.log").write_text(nanogpt(200, seed=1), encoding="utf-8")
    found = ask("old/train.log", "new/train.log", "faster.log")
    assert [run["name"] for run in found["runs"]] == ["train", "new/train.log", "faster"]
    assert [row["verdict"] for row in found["comparisons"]] == ["no_difference_shown", "faster"]
    assert "2 comparisons: p corrected by Holm; each interval is 95 % by itself" in found["assumptions"]
    assert "doc:holm" in found["sources"]


@pytest.mark.parametrize("runs", [{"old": SLOW, "new": FAST}, [{"old": SLOW}, {"new": FAST}]])
def test_runs_may_be_named(runs: Any) -> None:
    found = advisor_mcp.call("compare_runs", runs=runs).data()
    assert (found["baseline"], found["comparisons"][0]["run"]) == ("old", "new")
    assert advisor_mcp.call("compare_runs", runs=runs, baseline="new").data()["comparisons"][0]["verdict"] == "slower"


def test_several_files_of_one_run_are_its_repetitions(tmp_path: Path) -> None:
    def results_of(name: str, *speeds: float) -> list[str]:
        paths = [tmp_path / f"{name}{at}.json" for at in range(len(speeds))]
        for path, speed in zip(paths, speeds, strict=True):
            path.write_text(json.dumps({"request_throughput": 1.0, "output_throughput": speed}), encoding="utf-8")
        return [str(path) for path in paths]

    found = ask({"old": results_of("a", 100, 101, 99, 102, 98)}, {"new": results_of("b", 110, 111, 109, 112, 108)})
    assert found["comparisons"][0]["verdict"] == "faster"
    assert [(run["form"], run["n"], run["removed"]) for run in found["runs"]] == [("vLLM output_throughput", 5, 0)] * 2


def test_a_result_object_is_read_as_the_file_it_was() -> None:
    result = {"avg_latency": 1.0, "latencies": FAST}
    assert (
        ask(result, {"slow": {"avg_latency": 1.1, "latencies": SLOW}})["comparisons"][0]["speed_change_percent"]
        == -9.09
    )
    llama = [
        {"n_prompt": 0, "n_gen": 128, "avg_ts": 1, "samples_ns": [value * 1e9 for value in run]} for run in (FAST, SLOW)
    ]
    assert ask([llama[0]], [llama[1]])["runs"][0]["median"] == 128


def test_means_of_llama_bench_are_compared_and_the_samples_asked_for_where_only_one_side_has_them() -> None:
    table = "| model | test | t/s |\n| --- | ---: | ---: |\n| m | tg128 | {} |\n"
    found = ask(table.format("120.60 ± 0.59"), table.format("130.60 ± 0.59"))
    assert found["comparisons"][0]["verdict"] == "faster"
    assert [(run["n"], run["spread_percent"]) for run in found["runs"]] == [(5, 0.49), (5, 0.45)]
    assert "means compared by Welch's t test, as the files keep no samples" in found["assumptions"]
    found = ask(table.format("120.60 ± 0.59"), [120.0] * 5, unit="tokens_per_s")
    assert found["comparisons"][0]["verdict"] == "too_few_samples"
    assert found["next_measurement"] == "run llama-bench with -o json, which keeps every repetition"


def test_outliers_stay_and_are_told_by_their_step_and_what_came_before_them() -> None:
    lines = nanogpt(250).splitlines()
    lines[0] = "iter 0: loss 10.9000, time 30000.00ms, mfu -100.00%"
    lines[20] = "step 20: train loss 2.1000, val loss 2.2000\niter 20: loss 2.8000, time 2500.00ms, mfu 41.02%"
    run = ask("\n".join(lines), nanogpt(250))["runs"][0]
    assert (run["removed"], run["n"], run["outliers"]) == (1, 39, 1)
    assert run["outliers_at"] == [f"step 20 (after an evaluation): {2500 / run['median']:.3g} x the median"]


def test_a_run_that_drifts_is_told_first_with_what_to_look_at() -> None:
    noise = np.exp(0.005 * np.random.default_rng(3).standard_normal((2, 49)))
    slowing, steady = np.geomspace(240, 289, 49) * noise[0], 262 * noise[1]
    found = ask({"a": list(slowing)}, {"b": list(steady)}, unit="ms", warm_up=0)
    row, run = found["comparisons"][0], found["runs"][0]
    apart = row["speed_change_percent"]
    said = re.fullmatch(
        r"a gets slower over the run: its times grow by ([\d.]+) % \((\d+) to (\d+) ms\); how b compares with a depends on "
        r"where in the run one looks; the medians differ by ([\d.]+) %\.",
        found["summary"],
    )
    assert said is not None
    # 289 / 240 - 1 = 20.4 % longer times are 1 - 240 / 289 = 17 % less speed
    wanted = [pytest.approx(20.4, abs=1), pytest.approx(240, abs=2), pytest.approx(289, abs=2), abs(apart)]
    assert [float(text) for text in said.groups()] == [*wanted[:3], pytest.approx(wanted[3], abs=0.1)]
    assert run["drift_percent"] == pytest.approx(-17, abs=1)
    assert (row["verdict"], run["independent_values"]) == ("too_few_samples", 1)
    assert "a: the run drifts, so its median depends on its length" in found["warnings"]
    assert found["next_measurement"].startswith("find what changes over a: clocks and heat (inspect_gpus), or a trace")
    assert find("source", found["sources"][-1])


@pytest.mark.parametrize(("first", "last", "arguments", "said"), [
    (1.0, 2.0, {}, "a gets slower over the run: its times grow by 100.0 % (1 to 2); "),
    (2.0, 1.0, {}, "a gets faster over the run: its times fall by 50.0 % (2 to 1); "),
    (1.0, 2.0, {"higher_is_better": True}, "a gets higher over the run: its values grow by 100.0 % (1 to 2); "),
    (2.0, 1.0, {"unit": "tokens_per_s"}, "a gets slower over the run: its speeds fall by 50.0 % (2 to 1 tokens_per_s); "),
])  # fmt: skip
def test_a_drift_is_told_in_the_words_of_what_is_measured(
    first: float, last: float, arguments: dict[str, Any], said: str
) -> None:
    found = ask({"a": list(np.geomspace(first, last, 49))}, {"b": [1.5] * 5}, warm_up=0, **arguments)
    assert found["summary"].startswith(said)


def test_numbers_that_may_be_in_two_units_are_told() -> None:
    found = ask([0.24, 0.241, 0.239, 0.24], [240.0, 241.0, 239.0, 240.0])
    assert found["summary"].endswith(", if both are in one unit.")
    assert found["warnings"] == [
        "B and A are 1,000 times apart: are both in one unit (s, ms)? Give numbers of one unit, and say which with unit"
    ]


def test_a_run_of_which_much_is_warm_up_is_told() -> None:
    warming = list(np.linspace(2, 1, 40)) + [1.0, 1.01] * 20
    found = ask(warming, [1.0, 1.01] * 40)
    assert "A: a third of it or more is warm-up, so its rest may not be steady either; run longer" in found["warnings"]


def test_sources_are_entries_of_the_knowledge_base() -> None:
    named = ask(SLOW, FAST, FAST, detail="full")
    cited = {*named["sources"], *(row["source"] for row in named["derivation"] if row.get("source"))}
    assert [source for source in cited if not find("source", source)] == []


@pytest.mark.parametrize("detail", ["brief", "full"])
def test_many_runs_with_many_outliers_keep_the_answer_s_size(detail: str) -> None:
    stalls = [5.0 + at % 3 if at % 10 == 9 else 1 + at % 7 / 1000 for at in range(600)]
    runs = [
        {f"a run with a name of some length {at}": [value * (1 + at / 100) for value in stalls]} for at in range(12)
    ]
    answer = advisor_mcp.call("compare_runs", runs=runs, detail=detail)
    data, text = results.present(answer, limit := BRIEF_BYTES if detail == "brief" else FULL_BYTES)
    assert max(len(json.dumps(data, separators=(",", ":")).encode()), len(text.encode())) <= limit
    assert data["omitted"]


@pytest.mark.parametrize(("runs", "arguments", "sentence"), [
    ([FAST], {}, "a comparison needs 2 to 20 runs, not 1"),
    ([FAST, []], {}, "B has no values; give step times, or a log"),
    ([FAST, [1.0, "x"]], {}, "B mixes numbers and texts; give a list of numbers, or a list of logs"),
    ([FAST, [1.0, 0.0]], {}, "every measurement must be a number above 0, not 0.0"),
    ([FAST, "nowhere.log"], {}, "there is no readable log at 'nowhere.log'; give a path or the log's text"),
    ([FAST, nanogpt(250)], {}, "the runs do not compare: A has numbers without a unit and B has times; give all of them in one unit"),
    ([FAST, nanogpt(250)], {"unit": "tokens_per_s"}, "B has times, not tokens_per_s; leave unit out"),
    ([FAST, nanogpt(250)], {"higher_is_better": True}, "B has times, where lower is better; leave higher_is_better out"),
    ([FAST, SLOW], {"metric": "tg128"}, "metric 'tg128' chooses a figure of a result file, and no run is one"),
    ([FAST, SLOW], {"warm_up": 5}, "A has 5 values; warm_up 5 leaves none"),
    ([FAST, SLOW], {"baseline": "C"}, "baseline names no run; the runs are A, B"),
    ([FAST, "no numbers\nin here"], {}, "B: no measurements were found in the text (torchtitan, Megatron-LM, Hugging Face Trainer, nanoGPT, DeepSpeed, torchtune, vLLM bench, llama-bench and others, CSV and plain numbers are known)"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    runs: Any, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AdvisorError) as caught:
        ask(*runs, **arguments)
    assert caught.value.message == sentence


def test_seconds_and_a_log_s_milliseconds_are_one_unit() -> None:
    assert ask([0.25, 0.251, 0.249, 0.25], nanogpt(250), unit="s")["unit"] == "ms"


def test_over_the_network_texts_are_read_and_paths_only_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(nanogpt(250), encoding="utf-8")
    with access.limited(None):
        assert ask(nanogpt(250), nanogpt(200))["comparisons"][0]["verdict"] == "faster"
        with pytest.raises(UsageError, match="this server reads no paths"):
            ask(nanogpt(250), str(tmp_path / "a.log"))
    with access.limited(tmp_path):
        assert ask("a.log", nanogpt(200))["baseline"] == "a"
        with pytest.raises(UsageError, match="lies outside the folder"):
            ask("a.log", "../a.log")


def test_the_command_takes_paths_numbers_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.chdir(tmp_path)
    for name, median in (("a.log", 250), ("b.log", 200)):
        Path(name).write_text(nanogpt(median), encoding="utf-8")
    assert cli.main(["compare-runs", "a.log", "b.log"]) == cli.ANSWERED
    assert capsys.readouterr().out.startswith("b is 25.0 % faster than a (95 % interval ")
    monkeypatch.setattr("sys.stdin", io.StringIO("1.1 1.11\n1.09 1.12 1.08\n"))
    assert (
        cli.main(["compare-runs", "-", "[1.0, 1.01, 0.99, 1.02, 0.98]", "1.1,1.11,1.09,1.12,1.08", "--json"])
        == cli.ANSWERED
    )
    verdicts = [row["verdict"] for row in json.loads(capsys.readouterr().out)["comparisons"]]
    assert verdicts == ["faster", "no_difference_shown"]
