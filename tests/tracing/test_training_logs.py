"""Throughput from pasted logs, one line form per framework."""

from __future__ import annotations

import pytest

from advisor_mcp.errors import CannotAnswer
from advisor_mcp.tracing.training_logs import Throughput, read_throughput


@pytest.mark.parametrize(("line", "expected"), [
    ("step: 10  loss: 5.1  memory: 40.2GiB(50%)  tps: 7,123  tflops: 412.1  mfu: 41.67%", ("torchtitan", "tokens_per_s_per_gpu", 7123)),
    (" iteration 20/ 500 | elapsed time per iteration (ms): 1234.5 | learning rate: 1e-4 | global batch size: 512 |", ("Megatron-LM", "step_time_s", 1.2345)),
    ("iter 40: loss 2.8130, time 245.20ms, mfu 41.02%", ("nanoGPT", "step_time_s", 0.2452)),
    ("{'train_runtime': 10.0, 'train_tokens_per_second': 52100.5, 'epoch': 1.0}", ("Hugging Face Trainer", "tokens_per_s", 52100.5)),
    ("[batch=5/10]: Train throughput/device/tokens_per_sec: 1007.5", ("llm-foundry", "tokens_per_s_per_gpu", 1007.5)),
    ("RunningAvgSamplesPerSec=3.4, CurrSamplesPerSec=3.5, MemAllocated=1GB", ("DeepSpeed", "samples_per_s", 3.5)),
    ("Step 3 | loss:1.2 lr:2e-5 tokens_per_second_per_gpu:2210.5", ("torchtune", "tokens_per_s_per_gpu", 2210.5)),
])  # fmt: skip
def test_a_line_of_each_framework_is_read_in_its_own_unit(line: str, expected: tuple[str, str, float]) -> None:
    framework, unit, value = expected
    found = read_throughput(line)
    assert (found.framework, found.unit, found.lines) == (framework, unit, 1)
    assert found.value == pytest.approx(value)


def test_warm_up_is_left_out_and_the_median_resists_an_outlier() -> None:
    speeds = [10, 20, 500, 1000, 1001, 999, 1000, 3]
    log = "\n".join(f"step: {i} tps: {speed}" for i, speed in enumerate(speeds))
    assert read_throughput(log) == Throughput("torchtitan", "tokens_per_s_per_gpu", 1000, 8, 3)


def test_a_short_log_is_used_whole() -> None:
    assert read_throughput("tps: 5\ntps: 7\ntps: 9") == Throughput("torchtitan", "tokens_per_s_per_gpu", 7, 3, 0)


def test_a_log_without_a_throughput_says_which_forms_are_known() -> None:
    with pytest.raises(CannotAnswer, match=r"no throughput was found in the log \(lines of torchtitan, llm-foundry, "):
        read_throughput("epoch 1 loss 2.0")
