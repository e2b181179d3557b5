"""Measuring a device: warm-up, samples, the best shape, and what is said of what could not be measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.gpus.stand_in_device import H100, StandIn

from advisor_mcp.declaration import Silent
from advisor_mcp.errors import Cancelled
from advisor_mcp.gpus.benchmarking import plan
from advisor_mcp.gpus.benchmarking.backend import Identity
from advisor_mcp.gpus.benchmarking.timing import LEAST_SAMPLE_S, Samples, measure, runs_per_sample, summary
from advisor_mcp.knowledge.measurements import Measurement

WHEN = "2026-11-21T08:00:00Z"
CPU = Identity("cpu", "A CPU, 2 threads", "cpu", 8 * 2**30, "torch 2.13.0")


def run(device: StandIn, parts: tuple[str, ...] = plan.PARTS, seconds: float = 60.0) -> plan.Outcome:
    return plan.run(device, plan.tasks(device, parts), seconds, WHEN, Silent(), device.now, "0.1")


def values(outcome: plan.Outcome) -> dict[str, float]:
    return {row.key: round(row.value, 6) for row in outcome.rows}


def test_a_steady_device_is_measured_at_its_speed() -> None:
    device = StandIn()
    found = measure(device.working(1e-3), 2.0, device.now)
    assert (found.median, found.low, found.high, found.settled) == (
        pytest.approx(1e-3),
        pytest.approx(1e-3),
        pytest.approx(1e-3),
        True,
    )


def test_slow_first_runs_are_warm_up_and_leave_no_trace() -> None:
    device = StandIn(cold=300)
    found = measure(device.working(1e-3), 4.0, device.now)
    assert (found.high, found.settled) == (pytest.approx(1e-3), True)


def test_warm_up_that_never_ends_is_told() -> None:
    device = StandIn()
    speeds = iter(range(1, 1_000_000))

    def slowing(times: int) -> float:
        taken = times * 1e-3 * 1.01 ** next(speeds)
        device.at += taken
        return taken

    assert measure(slowing, 2.0, device.now).settled is False


def test_a_short_kernel_is_run_often_enough_for_a_sample_and_a_long_one_once() -> None:
    device = StandIn()
    assert runs_per_sample(device.working(1.0)) == 1
    many = runs_per_sample(device.working(1e-6))
    assert LEAST_SAMPLE_S <= many * 1e-6 < 3 * LEAST_SAMPLE_S


def test_the_time_given_is_kept_but_for_the_least_samples() -> None:
    device = StandIn()
    measure(device.working(1e-3), 3.0, device.now)
    assert device.at == pytest.approx(3.0, rel=0.05)
    slow = StandIn()
    # two runs to see how long it takes, and three samples
    assert measure(slow.working(10.0), 1.0, slow.now) == Samples(10.0, 10.0, 10.0, 3, False)
    assert slow.at == 50.0


def test_the_spread_is_the_first_and_the_last_tenth() -> None:
    assert summary([float(n) for n in range(11)]) == Samples(5.0, 1.0, 9.0, 11, True)


def test_every_quantity_of_a_gpu_is_measured_and_named() -> None:
    device = StandIn(
        identity=replace(H100, count=8),
        tflops={"fp32": 50, "tf32": 400, "bf16": 750, "fp16": 740, "fp8": 1300},
        copies={
            "device": 2900.0,
            "host_to_device.pinned": 55.0,
            "host_to_device.pageable": 12.0,
            "device_to_host.pinned": 53.0,
        },
    )
    outcome = run(device)
    assert values(outcome) == {
        "matmul.fp32": 50, "matmul.tf32": 400, "matmul.bf16": 750, "matmul.fp16": 740, "matmul.fp8": 1300, "copy.device": 2900,
        "copy.host_to_device.pinned": 55, "copy.host_to_device.pageable": 12, "copy.device_to_host.pinned": 53, "launch": 4,
        "all_reduce.8": 400,
    }  # fmt: skip
    assert {row.key: row.unit for row in outcome.rows if row.unit != "GB/s"} == {
        **{f"matmul.{dtype}": "TFLOP/s" for dtype in ("fp32", "tf32", "bf16", "fp16", "fp8")}, "launch": "us",
    }  # fmt: skip
    assert outcome.skipped == []


def test_a_row_says_how_it_was_taken_and_nothing_of_the_machine() -> None:
    found = run(StandIn(tflops={"bf16": 750}, slower={(16384, 8192, 8192): 1.1, (8192, 28672, 8192): 1.1}), ("matmul",))
    (row,) = found.rows
    assert row == Measurement(
        "ceiling", "h100-sxm", "matmul.bf16", pytest.approx(750), "TFLOP/s", pytest.approx(750), pytest.approx(750), row.samples, WHEN,
        {
            "what": "(8192, 8192) x (8192, 8192)", "command": "advisor-mcp benchmark-device", "version": "0.1",
            "device": "NVIDIA H100 80GB HBM3", "software": "torch 2.13.0", "driver": "580.65", "clock_mhz": 1755, "settled": True,
        },
    )  # fmt: skip


def test_of_several_shapes_the_fastest_is_kept() -> None:
    found = run(StandIn(tflops={"bf16": 750}, slower={(8192, 8192, 8192): 1.25}), ("matmul",))
    (row,) = found.rows
    assert (round(row.value), row.how["what"] != "(8192, 8192) x (8192, 8192)") == (750, True)


def test_what_a_device_does_not_support_is_told_with_the_reason_and_the_rest_is_measured() -> None:
    found = run(StandIn(tflops={"fp32": 20}, copies={"device": 800.0}), ("matmul", "copy"))
    assert values(found) == {"matmul.fp32": 20, "copy.device": 800}
    assert {what.split(",")[0]: why for what, why in plan.unmeasured(found)} == {
        "matmul.tf32": "no tf32 here", "matmul.bf16": "no bf16 here", "matmul.fp16": "no fp16 here", "matmul.fp8": "no fp8 here",
        "copy.host_to_device.pinned": "no such path", "copy.host_to_device.pageable": "no such path",
        "copy.device_to_host.pinned": "no such path",
    }  # fmt: skip


def test_a_shape_that_would_outlast_its_share_is_left_out() -> None:
    # 1024^3 takes 21 s at 10^-4 TFLOP/s; 2048^3 would take 172 s
    device = StandIn(identity=CPU, tflops={"fp32": 1e-4})
    outcome = run(device, ("matmul",), seconds=60.0)
    assert device.made == ["fp32 1024x1024x1024"]
    assert [why for what, why in outcome.skipped if "fp32" in what] == ["it would take longer than the time given"] * 2
    assert plan.unmeasured(outcome) == [(what, why) for what, why in outcome.skipped if "fp32" not in what]


def test_nothing_takes_more_than_an_eighth_of_the_memory() -> None:
    small = StandIn(identity=replace(H100, memory_bytes=2**32), tflops={"bf16": 100, "fp32": 10})
    found = {(task.key, task.how) for task in plan.tasks(small, ("matmul", "copy"))}
    # 2^32 / 8 bytes hold three matrices of 8192 x 8192 in 16 bits (403 MB) and not in 32 (805 MB)
    assert ("matmul.bf16", "(8192, 8192) x (8192, 8192)") in found
    assert not any(key == "matmul.fp32" for key, _ in found)
    assert ("copy.device", f"{2**29} bytes, device") in found


def test_copies_are_larger_than_a_large_cache() -> None:
    (first, *_) = plan.tasks(StandIn(identity=replace(H100, l2_bytes=2**29)), ("copy",))
    assert first.how == f"{4 * 2**29} bytes, device"


def test_a_cpu_has_products_and_copies_but_no_launches_or_links() -> None:
    keys = {task.key for task in plan.tasks(StandIn(identity=CPU))}
    assert keys == {"matmul.fp32", "matmul.bf16", "matmul.fp16", "copy.device"}


def test_progress_is_told_task_by_task_and_a_cancelled_run_stops() -> None:
    told: list[tuple[float, Any]] = []

    class Watching(Silent):
        def report(self, done: float, total: float | None = None, message: str | None = None) -> None:
            told.append((done, message))
            if done == 1:
                raise Cancelled("the call was cancelled")

    device = StandIn(tflops={"fp32": 50})
    with pytest.raises(Cancelled):
        plan.run(device, plan.tasks(device, ("matmul",)), 10.0, WHEN, Watching(), device.now)
    assert told == [(0, "matmul.fp32 (8192, 8192) x (8192, 8192)"), (1, "matmul.fp32 (16384, 8192) x (8192, 8192)")]
