"""The four parts of a device's time and the causes of the idle one, on traces whose answer is plain arithmetic."""

from __future__ import annotations

import pytest
from tests.tracing.made import Made

from advisor_mcp.tracing.split import Split

NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def test_the_four_parts_sum_to_the_span_and_compute_hides_communication_and_both_hide_copies() -> None:
    # compute 0-40; communication 30-60, so 20 exposed; copy 50-80, so 20 exposed; idle 80-90; compute 90-100
    made = Made().kernel("gemm", 0, 40).kernel(NCCL, 30, 30, stream=20).copy(50, 30, stream=21).kernel("gemm", 90, 10)
    assert made.case().split == Split(0, 0, 100_000, 50_000, 20_000, 20_000, 10_000, 30_000, 30_000)
    assert made.case().split.overlap == pytest.approx(1 / 3)


def test_a_memset_counts_as_compute_and_a_device_without_communication_has_no_overlap() -> None:
    made = Made().kernel("Memset (Device)", 0, 5, cat="gpu_memset").kernel("gemm", 15, 5)
    split = made.case().split
    assert (split.compute, split.idle, split.overlap) == (10_000, 10_000, None)


def test_events_inside_others_add_nothing() -> None:
    made = Made().kernel("gemm", 0, 100).kernel("gemm", 10, 10, stream=8).kernel("gemm", 20, 30, stream=9)
    assert made.case().split.compute == 100_000


def test_every_device_of_a_trace_has_its_own_parts() -> None:
    made = (
        Made()
        .kernel("gemm", 0, 10)
        .kernel("gemm", 20, 10)
        .kernel("gemm", 5, 10, device=1)
        .kernel("gemm", 15, 5, device=1)
    )
    found = [(case.device, case.split.idle) for case in made.diagnosis().cases]
    assert found == [(0, 10_000), (1, 0)]


def causes(made: Made) -> list[tuple[float, str]]:
    gaps = made.case().gaps
    return [(int(duration) / 1000, cause) for duration, cause in zip(gaps.duration, gaps.cause, strict=True)]


def test_a_gap_before_a_kernel_that_was_launched_in_it_is_the_hosts() -> None:
    assert causes(Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 120, 10, launch=115)) == [(100.0, "host")]


def test_a_gap_before_a_kernel_that_was_launched_in_time_is_the_devices_own_below_30_microseconds_and_a_wait_above() -> (
    None
):
    made = Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 49, 10, launch=2).kernel("gemm", 89, 10, launch=4)
    assert causes(made) == [(29.0, "short_gaps"), (30.0, "stream_wait")]


def test_a_gap_before_a_kernel_without_launch_record_has_no_cause() -> None:
    assert causes(Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 120, 10)) == [(100.0, "unlinked")]


def test_a_gap_that_the_data_loader_fills_for_more_than_half_is_its() -> None:
    wait = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
    made = Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 120, 10, launch=110).range(wait, 25, 60)
    assert causes(made) == [(100.0, "dataloader")]


def test_a_gap_that_begins_in_a_blocking_call_is_the_synchronisations() -> None:
    made = (
        Made().kernel("gemm", 10, 10, launch=0).call("cudaStreamSynchronize", 5, 17).kernel("gemm", 120, 10, launch=110)
    )
    assert causes(made) == [(100.0, "synchronisation")]


def test_a_synchronisation_that_was_over_long_before_the_gap_is_not_its_cause() -> None:
    made = (
        Made()
        .kernel("gemm", 10, 100, launch=0)
        .call("cudaStreamSynchronize", 5, 20)
        .kernel("gemm", 220, 10, launch=200)
    )
    assert causes(made) == [(110.0, "host")]


def test_an_asynchronous_copy_that_lasted_until_its_copy_was_done_blocked() -> None:
    made = Made().kernel("gemm", 0, 10, launch=-10)
    made.copy(20, 30, launch=12, call_dur=40, name="Memcpy DtoH (Device -> Pageable)").kernel(
        "gemm", 150, 10, launch=140
    )
    assert causes(made) == [(10.0, "host"), (100.0, "synchronisation")]


def test_a_gap_that_other_calls_fill_is_theirs() -> None:
    made = Made().kernel("gemm", 10, 10, launch=0).call("cudaMalloc", 30, 70).kernel("gemm", 120, 10, launch=110)
    assert causes(made) == [(100.0, "api_calls")]


def test_steps_reach_to_the_next_step_and_the_last_one_to_the_devices_end() -> None:
    made = Made().kernel("gemm", 10, 20).kernel("gemm", 60, 20).kernel("gemm", 110, 40).steps(0, 50, 100, 140)
    found = [((step.end - step.start) / 1000, split.compute / 1000) for step, split in made.case().step_splits]
    assert found == [(50.0, 20.0), (50.0, 20.0), (50.0, 40.0)]


def test_a_trace_without_steps_has_none() -> None:
    assert Made().kernel("gemm", 10, 20).case().steps == []


def test_a_kernel_that_was_launched_late_and_then_still_waited_has_two_causes() -> None:
    # the device is free at 20, the host launches from 50 to 52, the kernel starts at 200
    made = Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 200, 10, launch=50)
    assert causes(made) == [(32.0, "host"), (148.0, "stream_wait")]


def test_a_launch_call_that_takes_long_itself_is_the_hosts_time() -> None:
    made = Made().kernel("gemm", 10, 10, launch=0).kernel("gemm", 200, 10, launch=50, call_dur=145)
    assert causes(made) == [(180.0, "host")]
