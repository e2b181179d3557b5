"""Speeds from counters that only grow: the Hugging Face Trainer and its progress bar."""

from __future__ import annotations

import json

import pytest

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.measuring.logs import read_samples
from advisor_mcp.measuring.samples import Samples

COUNTED = "tokens per second between log lines, from the counters; evaluation and saving count where they fall"


def logged(tokens: int, runtime: str) -> str:
    return f"{{'loss': '2.603', 'epoch': '2.24', 'num_input_tokens_seen': {tokens}, 'train_runtime': '{runtime}', 'train_tokens_per_second': '7.8e+04'}}\n"


def test_a_trainer_s_counters_give_the_speed_between_two_lines_and_not_since_the_start() -> None:
    log = logged(1000, "100.0") + logged(3000, "110.0") + logged(4000, "120.0")
    assert read_samples(log) == Samples("Hugging Face Trainer", "tokens_per_s", (200.0, 100.0), notes=(COUNTED,))


def test_lines_are_joined_until_the_clock_s_rounding_is_small_against_the_time_between_them() -> None:
    # four digits of 1,234 s are whole seconds: an interval has at least 50 of them
    log = logged(0, "1000") + logged(2000, "1020") + logged(4000, "1040") + logged(6000, "1060") + logged(7000, "1080")
    assert read_samples(log) == Samples("Hugging Face Trainer", "tokens_per_s", (100.0,), notes=(COUNTED,))


def test_a_trainer_state_file_is_read_from_its_history_without_the_summary() -> None:
    history = [
        {"step": 10, "num_input_tokens_seen": 1000, "train_runtime": 10.0},
        {"step": 10, "eval_loss": 2.0, "eval_runtime": 3.0},
        {"step": 20, "num_input_tokens_seen": 2000, "train_runtime": 20.0},
        {"step": 20, "num_input_tokens_seen": 2000, "train_runtime": 99.0, "train_loss": 2.0},
    ]
    state = json.dumps({"global_step": 20, "log_history": history}, indent=2)
    assert read_samples(state) == Samples("Hugging Face Trainer", "tokens_per_s", (100.0,), notes=(COUNTED,))


def test_a_resumed_trainer_counts_from_its_new_start() -> None:
    log = logged(1000, "100.0") + logged(2000, "110.0") + logged(2500, "10.0") + logged(3500, "20.0")
    assert read_samples(log) == Samples(
        "Hugging Face Trainer", "tokens_per_s", (100.0, 100.0), starts=(0, 1), notes=(COUNTED,)
    )


def bar(count: int, total: int, elapsed: str) -> str:
    return f"\r {100 * count // total:3}%|###   | {count}/{total} [{elapsed}<10:00,  2.05s/it]"


def test_of_a_progress_bar_the_elapsed_time_counts_and_not_the_smoothed_rate() -> None:
    # 30 steps in 60 s, then 20 steps in 60 s, past an hour; the evaluation's own bar is another one
    log = (
        bar(0, 900, "59:00")
        + bar(15, 900, "59:30")
        + bar(30, 900, "1:00:00")
        + bar(7, 8, "00:07")
        + bar(50, 900, "1:01:00")
    )
    note = "mean step time over stretches of at least 50 s, as a progress bar tells whole seconds only"
    assert read_samples(log) == Samples("progress bar", "ms", (2000.0, 3000.0), notes=(note,))


def test_a_summary_alone_is_one_repetition() -> None:
    text = "{'eval_samples_per_second': 900.5}\n{'train_runtime': 10.0, 'train_samples_per_second': 2.609, 'train_steps_per_second': 0.163}"
    note = "the mean of the whole run, evaluation and saving included"
    assert read_samples(text) == Samples(
        "Hugging Face Trainer", "samples_per_s", (2.609,), repetitions=True, notes=(note,)
    )


@pytest.mark.parametrize(
    "text", ["epoch 1 loss 2.0", bar(1, 9, "00:01"), "{}", "[]", '{"log_history": []}', '[{"a": 1}]', "[[1]]"]
)
def test_a_text_without_measurements_says_what_is_known(text: str) -> None:
    with pytest.raises(CannotAnswer, match=r"no measurements were found in the text \(torchtitan, Megatron-LM, "):
        read_samples(text)


@pytest.mark.parametrize("text", [
    "1/2 [00:00<" * 50_000, "'num_input_tokens_seen': 1" * 50_000, "INSERT INTO llama_bench (a) VALUES ('1'" * 20_000,
    "train_samples_per_second " * 50_000, "Throughput: 1 requests/s, " * 20_000, "| test | t/s |" * 20_000, "saving " * 50_000,
    "1," * 200_000 + "x", '"' + "a" * 400_000,
], ids=lambda text: text[:12].strip())  # fmt: skip
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    with pytest.raises(CannotAnswer, match="no measurements were found"):
        read_samples(text)
