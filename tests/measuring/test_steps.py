"""Steps of training logs, in the line form of each framework and with what gets into real logs."""

from __future__ import annotations

import pytest

from advisor_mcp.measuring.logs import read_samples
from advisor_mcp.measuring.samples import Samples
from advisor_mcp.measuring.steps import read_steps

TITAN = "[titan] 2026-01-02 03:04:05,678 - root - INFO - step: {step:2}  loss:  5.10000  memory: 40.20GiB(50.00%)  tps: {tps:,}  mfu: 41.67%\n"
MEGATRON = " [2026-01-02 03:04:05.6] iteration {step:8d}/     500 | elapsed time per iteration (ms): {ms} | global batch size: {batch:5d} | number of nan iterations:   0 |\n"


def titan(*pairs: tuple[int, int], prefix: str = "") -> str:
    return "".join(prefix + TITAN.format(step=step, tps=tps) for step, tps in pairs)


@pytest.mark.parametrize(("log", "expected"), [
    (titan((1, 700), (10, 7000)), Samples("torchtitan", "tokens_per_s_per_gpu", (700, 7000), steps=(1, 10), first_step_slow=True)),
    (MEGATRON.format(step=5, ms="812.4", batch=512) + MEGATRON.format(step=6, ms="810.0", batch=512), Samples("Megatron-LM", "ms", (812.4, 810.0), steps=(5, 6), work=(512, "samples"))),
    ("tokens per iteration will be: 491,520\niter 40: loss 2.81, time 245.20ms, mfu 41.02%\niter 50: loss 2.80, time 246.00ms, mfu 41.02%", Samples("nanoGPT", "ms", (245.2, 246.0), steps=(40, 50), work=(491520, "tokens"))),
    ("epoch=0/micro_step=20/global_step=10, RunningAvgSamplesPerSec=3.4, CurrSamplesPerSec=3.5, MemAllocated=1GB", Samples("DeepSpeed", "samples_per_s", (3.5,), steps=(10,))),
    ("steps: 10 loss: 2.0000 iter time (s): 0.500 samples/sec: 64.000\nsteps: 20 loss: 2.0000 iter time (s): 0.400 samples/sec: 80.000", Samples("DeepSpeed", "samples_per_s", (64, 80), steps=(10, 20))),
    ("Step 3 | loss:1.2 lr:2e-5 tokens_per_second_per_gpu:2210.5 \nStep 4 | loss:1.2 lr:2e-5 tokens_per_second_per_gpu:2211.5 ", Samples("torchtune", "tokens_per_s_per_gpu", (2210.5, 2211.5), steps=(3, 4))),
    ('{"step": 3, "loss": 1.2, "tokens_per_second_per_gpu": 2210.5}', Samples("torchtune", "tokens_per_s_per_gpu", (2210.5,), steps=(3,))),
    ("[batch=7/4800]:\n\t Train time/batch: 6\n\t Train throughput/device/tokens_per_sec: 1007.5000\n", Samples("llm-foundry", "tokens_per_s_per_gpu", (1007.5,), steps=(7,))),
    ("completed step: 12, seconds: 3.210, Tokens/s/device: 5103.115, loss: 2.000", Samples("MaxText", "tokens_per_s_per_gpu", (5103.115,), steps=(12,))),
    ("step 00040/20000 (0.20%) | loss: 2.813000 | dt: 500.00ms | tok/sec: 1,048,576 | mfu: 48.20", Samples("nanochat", "tokens_per_s", (1048576,), steps=(40,))),
])  # fmt: skip
def test_a_framework_s_lines_become_values_by_step_in_one_unit(log: str, expected: Samples) -> None:
    assert read_samples(log) == expected


def test_colours_hide_neither_value_nor_step() -> None:
    log = "\x1b[31mstep: 20  \x1b[32mloss:  5.1000  \x1b[34mtps: \x1b[1m7,123  \x1b[35mmfu: 41.67%\x1b[39m\n"
    assert read_steps(log) == Samples("torchtitan", "tokens_per_s_per_gpu", (7123,), steps=(20,))


LABELS = ["[default{}]:", "[rank{}]:", "{}: ", "[1,{}]<stdout>:"]


@pytest.mark.parametrize("label", LABELS)
def test_ranks_that_print_the_same_step_become_one_value_each_step_however_they_interleave(label: str) -> None:
    first, second, third = (label.format(rank) for rank in range(3))
    log = (
        titan((10, 100), prefix=first) + titan((10, 104), (20, 110), prefix=second) + titan((20, 112), prefix=first)
        + titan((10, 102), prefix=third) + titan((20, 90), prefix=third)
    )  # fmt: skip
    assert read_steps(log) == Samples(
        "torchtitan", "tokens_per_s_per_gpu", (102, 110), steps=(10, 20),
        notes=("up to 3 ranks print the same step: the median of each step's lines is taken",),
    )  # fmt: skip


def test_ranks_without_a_label_are_known_by_steps_that_come_again_at_once() -> None:
    log = titan((10, 100), (10, 102), (20, 110), (10, 104), (20, 112), (30, 120), (20, 114), (30, 120), (30, 120))
    assert read_steps(log) == Samples(
        "torchtitan", "tokens_per_s_per_gpu", (102, 112, 120), steps=(10, 20, 30),
        notes=("up to 3 ranks print the same step: the median of each step's lines is taken",),
    )  # fmt: skip


def test_a_step_counter_that_goes_back_is_a_restart_and_repeated_steps_stay_measurements() -> None:
    log = titan((10, 100), (20, 101), (30, 102), (40, 103), (30, 50), (40, 104), (50, 105))
    assert read_steps(log) == Samples(
        "torchtitan", "tokens_per_s_per_gpu", (100, 101, 102, 103, 50, 104, 105), steps=(10, 20, 30, 40, 30, 40, 50), starts=(0, 4),
        notes=("the step counter starts again 1 time(s): each start has its own warm-up",),
    )  # fmt: skip


def test_two_whole_runs_in_one_file_are_two_starts_and_not_two_ranks() -> None:
    found = read_steps(
        titan(
            *((step, 100 + step) for step in (1, 10, 20, 30, 40)), *((step, 200 + step) for step in (1, 10, 20, 30, 40))
        )
    )
    assert found is not None
    assert (found.starts, len(found.values)) == ((0, 5), 10)


def test_each_labelled_rank_restarts_at_its_own_line() -> None:
    log = "".join(titan((step, step), prefix=f"[rank{rank}]:") for step in (10, 20, 30, 20, 30) for rank in (0, 1))
    found = read_steps(log)
    assert found is not None
    assert (found.values, found.steps, found.starts) == ((10, 20, 30, 20, 30), (10, 20, 30, 20, 30), (0, 3))


@pytest.mark.parametrize(("between", "event"), [
    ("[titan] - INFO - Saving the checkpoint (or staging if async is enabled).\n", "checkpoint"),
    (" [2026-01-02] successfully saved checkpoint from iteration 20 to /x\n", "checkpoint"),
    ("saving checkpoint to out\n", "checkpoint"),
    ("\x1b[33mvalidate step: 20  \x1b[32mloss:  5.1000  \x1b[34mtps: 9,000\x1b[39m\n", "evaluation"),
    ("validation loss at iteration 20 | lm loss value: 2.0E+00 |\n", "evaluation"),
    ("step 20: train loss 2.1000, val loss 2.2000\n", "evaluation"),
    ("***** Running Evaluation *****\n", "evaluation"),
])  # fmt: skip
def test_evaluations_and_checkpoints_are_no_steps_but_mark_the_value_after_them(between: str, event: str) -> None:
    log = titan((10, 100), (20, 101)) + between + titan((30, 60), (40, 100))
    assert read_steps(log) == Samples(
        "torchtitan", "tokens_per_s_per_gpu", (100, 101, 60, 100), steps=(10, 20, 30, 40), events={2: event}
    )  # type: ignore[dict-item]


def test_while_the_batch_grows_only_steps_of_its_last_size_are_kept() -> None:
    log = "".join(
        MEGATRON.format(step=s, ms=ms, batch=b) for s, ms, b in ((2, 500.0, 64), (3, 900.0, 128), (4, 910.0, 128))
    )
    assert read_steps(log) == Samples(
        "Megatron-LM", "ms", (900, 910), steps=(3, 4), work=(128, "samples"),
        notes=("1 steps of other global batch sizes than 128 are left out",),
    )  # fmt: skip


def test_a_log_without_steps_has_values_in_the_order_of_its_lines() -> None:
    found = read_steps("Step Time : 3.21s GPU utilization: 402.7MODEL_TFLOP/s/GPU\nStep Time : 3.25s GPU\n")
    assert found == Samples("Megatron-Bridge", "ms", (3210, 3250))
