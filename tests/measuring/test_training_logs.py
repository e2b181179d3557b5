"""Throughput from pasted logs, one line form per framework."""

from __future__ import annotations

import pytest

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.measuring.training_logs import Throughput, read_throughput

MEGATRON = (
    " [2026-01-02 03:04:05.678901] iteration {step:8d}/     500 | consumed samples:        10240 | elapsed time per iteration (ms): {ms} |"
    " throughput per GPU (TFLOP/s/GPU): 402.7 | learning rate: 1.000000E-04 | global batch size: {batch:5d} | lm loss: 2.000000E+00 |"
    " loss scale: 1.0 | grad norm: 0.500 | number of skipped iterations:   0 | number of nan iterations:   0 |\n"
)


@pytest.mark.parametrize(("line", "expected"), [
    ("[titan] 2026-01-02 03:04:05,678 - root - INFO - step: 10  loss:  5.10000  grad_norm:  0.5000  memory: 40.20GiB(50.00%)  tps: 7,123  tflops: 412.10  mfu: 41.67%", ("torchtitan", "tokens_per_s_per_gpu", 7123)),
    ("step: 10  loss:  5.1000  memory: 40.20GiB(50.00%)  wps: 7,123  mfu: 41.67%", ("torchtitan", "tokens_per_s_per_gpu", 7123)),
    ("iter 40: loss 2.8130, time 245.20ms, mfu 41.02%", ("nanoGPT", "step_time_s", 0.2452)),
    ("step 00040/20000 (0.20%) | loss: 2.813000 | lrm: 1.00 | dt: 500.00ms | tok/sec: 1,048,576 | bf16_mfu: 48.20 | epoch: 1 pq: 0 rg: 3", ("nanochat", "tokens_per_s", 1048576)),
    ("completed step: 12, seconds: 3.210, TFLOP/s/device: 402.700, Tokens/s/device: 5103.115, total_weights: 65536, loss: 2.000", ("MaxText", "tokens_per_s_per_gpu", 5103.115)),
    ("\t Train throughput/tokens_per_sec: 8060.0000\n\t Train throughput/device/tokens_per_sec: 1007.5000", ("llm-foundry", "tokens_per_s_per_gpu", 1007.5)),
    ("\t Train throughput/samples_per_sec: 16.0000", ("llm-foundry", "samples_per_s", 16)),
    ("\t Train throughput/samples_per_sec: 16.0000\n\t Train throughput/device/samples_per_sec: 2.0000", ("llm-foundry", "samples_per_s_per_gpu", 2)),
    ("Step Time : 3.21s GPU utilization: 402.7MODEL_TFLOP/s/GPU", ("Megatron-Bridge", "step_time_s", 3.21)),
    ("elapsed time per iteration (ms): 654.5/735.1 | compute per GPU (TFLOP/s/GPU): 615.5 (avg 610.2) | tokens/s/GPU inst/harmonic mean: 25032.8/22288.1 |", ("Primus", "tokens_per_s_per_gpu", 25032.8)),
    ("elapsed time per iteration (ms): 654.5 | throughput per GPU (TFLOP/s/GPU): 347.9 | tokens per GPU (tokens/s/GPU): 6759.1 |", ("Primus", "tokens_per_s_per_gpu", 6759.1)),
    ("RunningAvgSamplesPerSec=3.4, CurrSamplesPerSec=3.5, MemAllocated=1GB", ("DeepSpeed", "samples_per_s", 3.5)),
    ("steps: 10 loss: 2.0000 iter time (s): 0.500 samples/sec: 64.000", ("DeepSpeed", "samples_per_s", 64)),
    ("Step 3 | loss:1.2 lr:2e-5 tokens_per_second_per_gpu:2210.5 ", ("torchtune", "tokens_per_s_per_gpu", 2210.5)),
    ('{"step": 3, "loss": 1.2, "tokens_per_second_per_gpu": 2210.5}', ("torchtune", "tokens_per_s_per_gpu", 2210.5)),
])  # fmt: skip
def test_a_line_of_each_framework_is_read_in_its_own_unit(line: str, expected: tuple[str, str, float]) -> None:
    framework, unit, value = expected
    found = read_throughput(line)
    assert (found.framework, found.unit, found.lines) == (framework, unit, 1)
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(("text", "expected"), [
    # a periodic line: tokens gathered from all processes since the start; figures are quoted from 5.x on
    ("{'loss': '2.603', 'num_input_tokens_seen': 19660800, 'train_runtime': '252', 'train_tokens_per_second': '7.802e+04', 'epoch': '2.24'}", ("tokens_per_s", 78020)),
    # the last line of 4.x: the tokens of one process's data loader, beside the samples of all
    ("{'train_runtime': 245.6, 'train_samples_per_second': 32.568, 'train_steps_per_second': 4.071, 'train_tokens_per_second': 8337.519, 'train_loss': 0.84}", ("tokens_per_s_per_gpu", 8337.519)),
    ("***** train metrics *****\n  train_runtime            = 0:00:27.21\n  train_samples_per_second =     70.544\n  train_steps_per_second   =      0.367\n  train_tokens_per_second  =    376.234\n", ("tokens_per_s_per_gpu", 376.234)),
    ("{'eval_runtime': 6.2, 'eval_samples_per_second': 900.5, 'eval_steps_per_second': 3.1}\n{'train_runtime': 10.0, 'train_samples_per_second': 2.609, 'train_steps_per_second': 0.163}", ("samples_per_s", 2.609)),
])  # fmt: skip
def test_a_trainer_summary_is_read_as_tokens_of_all_or_of_one_process_or_as_samples(
    text: str, expected: tuple[str, float]
) -> None:
    unit, value = expected
    assert read_throughput(text) == Throughput("Hugging Face Trainer", unit, value, 1, 0, whole_run=True)  # type: ignore[arg-type]


def test_of_means_since_the_start_the_last_one_counts() -> None:
    text = "\n".join(f"{{'train_tokens_per_second': {speed}}}" for speed in (100, 900, 1000))
    assert read_throughput(text) == Throughput("Hugging Face Trainer", "tokens_per_s", 1000, 3, 0, whole_run=True)


def test_warm_up_is_left_out_and_the_median_resists_an_outlier() -> None:
    speeds = [10, 20, 500, 1000, 1001, 999, 1000, 3]
    log = "\n".join(f"step: {i} tps: {speed}" for i, speed in enumerate(speeds))
    assert read_throughput(log) == Throughput("torchtitan", "tokens_per_s_per_gpu", 1000, 8, 3)


def test_a_short_log_is_used_whole_but_for_the_first_step_of_a_run() -> None:
    assert read_throughput("step: 40 tps: 5\nstep: 50 tps: 7") == Throughput(
        "torchtitan", "tokens_per_s_per_gpu", 6, 2, 0
    )
    assert read_throughput("step:  1 tps: 5\nstep: 10 tps: 7") == Throughput(
        "torchtitan", "tokens_per_s_per_gpu", 7, 2, 1
    )
    assert read_throughput("step:  1 tps: 5") == Throughput("torchtitan", "tokens_per_s_per_gpu", 5, 1, 0)


@pytest.mark.parametrize("escape", ["\x1b", "^[", "\\x1b", "\\u001b", "\\033", ""])
def test_colours_do_not_hide_a_figure(escape: str) -> None:
    # the colours of torchtitan's step line; the last form is what is left when a page loses the escape character
    line = (
        f"{escape}[31mstep: 20  {escape}[32mloss:  5.1000  {escape}[38;2;180;60;0mgrad_norm:  0.5000  "
        f"{escape}[34mtps: {escape}[1m7,123  {escape}[36mtflops: 412.10  {escape}[35mmfu: 41.67%{escape}[39m"
    )
    assert read_throughput(line) == Throughput("torchtitan", "tokens_per_s_per_gpu", 7123, 1, 0)


def test_evaluation_lines_do_not_join_the_median() -> None:
    train = "step: {}  loss:  5.1000  memory: 40.20GiB(50.00%)  \x1b[34mtps: 1,000  mfu: 41.67%\n"
    evaluate = "\x1b[33mvalidate step: {}  \x1b[32mloss:  5.1000  memory: 40.20GiB(50.00%)  \x1b[34mtps: 9,000\n"
    log = "".join(train.format(step) + evaluate.format(step) * 2 for step in (10, 20))
    assert read_throughput(log) == Throughput("torchtitan", "tokens_per_s_per_gpu", 1000, 2, 0)
    with pytest.raises(CannotAnswer, match="no throughput was found"):
        read_throughput(evaluate.format(10))
    with pytest.raises(CannotAnswer, match="no throughput was found"):
        read_throughput("\t Eval throughput/tokens_per_sec: 9000.0000")


def test_megatron_states_its_global_batch_and_its_own_flops_are_no_speed() -> None:
    log = MEGATRON.format(step=1, ms="19138.8", batch=512) + MEGATRON.format(step=20, ms="1234.5", batch=512)
    found = read_throughput(log)
    assert found == Throughput("Megatron-LM", "step_time_s", found.value, 2, 1, global_batch_size=512)
    assert found.value == pytest.approx(1.2345)


def test_while_the_batch_grows_only_steps_of_its_last_size_count() -> None:
    steps = [(100, "500.0", 64), (200, "1000.0", 128), (300, "4000.0", 512), (400, "4200.0", 512)]
    found = read_throughput("".join(MEGATRON.format(step=s, ms=ms, batch=batch) for s, ms, batch in steps))
    assert found == Throughput(
        "Megatron-LM", "step_time_s", pytest.approx(4.1), 4, 0, global_batch_size=512, other_batches=2
    )


def test_nanogpt_says_at_the_start_what_an_iteration_holds() -> None:
    log = "tokens per iteration will be: 491,520\niter 0: loss 10.9, time 30000.00ms, mfu -100.00%\niter 10: loss nan, time 250.00ms, mfu 41.02%\n"
    assert read_throughput(log) == Throughput("nanoGPT", "step_time_s", 0.25, 2, 1, tokens_per_step=491520)


def test_a_log_without_a_throughput_says_which_forms_are_known() -> None:
    with pytest.raises(CannotAnswer, match=r"no throughput was found in the log \(lines of torchtitan, llm-foundry, "):
        read_throughput("epoch 1 loss 2.0")


def test_a_log_with_flops_alone_says_that_they_are_no_speed() -> None:
    with pytest.raises(
        CannotAnswer, match="no throughput was found in the log but TFLOP/s, which its framework counts"
    ):
        read_throughput("iteration 5/ 10 | throughput per GPU (TFLOP/s/GPU): 402.7 | lm loss: 2.0 |")


def test_a_figure_that_no_float_holds_stays_infinite_for_the_caller_to_refuse() -> None:
    assert read_throughput("tps: 1e999").value == float("inf")


@pytest.mark.parametrize("text", [
    "validate step: 1 " * 50_000, "\x1b[0" * 100_000, "[1;" * 100_000, "iter 1: loss " * 50_000,
    "train_steps_per_second 1 " * 50_000, "elapsed time per iteration (ms): |" * 50_000, "9" * 500_000,
], ids=lambda text: text[:12].strip())  # fmt: skip
def test_a_hostile_log_costs_no_more_than_its_length(text: str) -> None:
    with pytest.raises(CannotAnswer, match="no throughput was found in the log"):
        read_throughput(text)
