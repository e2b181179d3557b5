"""Allocator snapshots: peaks, who held them, and what the allocator held at the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.tracing.snapshots import (
    BACKWARD,
    EMPTY_CACHE,
    FORWARD,
    MIB,
    OPTIMIZER,
    block,
    dumped,
    event,
    segment,
    snapshot,
    stack,
    timed,
)

from advisor_mcp.errors import Cancelled, UsageError
from advisor_mcp.tracing.memory import Churn, Held, Holding, OutOfMemory, Peak, read_snapshot

STEP = timed(
    [
        event("segment_alloc", 100 * MIB, 1000, FORWARD),
        event("alloc", 30 * MIB, 1000, FORWARD),
        event("alloc", 40 * MIB, 2000, BACKWARD),  # 70 MiB: the peak
        event("free_requested", 30 * MIB, 1000, BACKWARD),
        event("free_completed", 30 * MIB, 1000, BACKWARD),
        event("alloc", 20 * MIB, 3000, OPTIMIZER),  # 60 MiB
        event("snapshot", 0, 0),
    ]
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_peak_is_the_largest_prefix_sum_and_is_told_by_line_and_by_phase(protocol: int) -> None:
    device = read_snapshot(dumped(snapshot(STEP), protocol)).devices[0]
    assert device.peak == Peak(
        size=70 * MIB,
        traced=70 * MIB,
        before=0,
        reserved=None,
        after_ms=2.0,
        event=3,
        by_site=(Holding("train.py:20 train", 40 * MIB), Holding("train.py:10 forward", 30 * MIB)),
        by_category=(Holding("in backward", 40 * MIB), Holding("in forward", 30 * MIB)),
    )
    assert (device.events, device.span_ms, device.largest_request, device.doubts) == (7, 6.0, 40 * MIB, ())


def test_what_was_in_use_before_the_record_counts_at_the_peak_under_the_stack_of_its_block() -> None:
    weights = block(50 * MIB, "active_allocated", address=500, frames=stack(5, "load"))
    rest = [block(40 * MIB, "active_allocated", address=2000), block(20 * MIB, "active_allocated", address=3000)]
    device = read_snapshot(
        dumped(snapshot(STEP, segments=[segment(weights, *rest, block(10 * MIB, address=9000))]))
    ).devices[0]
    assert device.peak is not None
    assert (device.peak.size, device.peak.traced, device.peak.before) == (120 * MIB, 70 * MIB, 50 * MIB)
    assert device.peak.by_site[0] == Holding("train.py:5 load", 50 * MIB)
    assert (device.peak.reserved, device.peak_reserved) == (120 * MIB, 120 * MIB)


def test_a_record_that_begins_in_the_middle_says_so_and_still_finds_its_peak() -> None:
    events = timed(
        [
            event("free_completed", 60 * MIB, 100, FORWARD),  # allocated before the ring buffer's first entry
            event("alloc", 10 * MIB, 200, FORWARD),
            event("free_completed", 10 * MIB, 200, FORWARD),
        ]
    )
    kept = segment(block(5 * MIB, "active_allocated", address=700), block(95 * MIB, address=800))
    device = read_snapshot(dumped(snapshot(events, segments=[kept]))).devices[0]
    assert device.peak is not None
    # 5 MiB at the end less -60 MiB net: 65 MiB before the first event, which nothing in the record exceeds
    assert (device.peak.size, device.peak.traced, device.peak.before) == (65 * MIB, 0, 65 * MIB)
    assert device.unseen_frees == 1
    assert [doubt.name for doubt in device.doubts] == ["history-truncated"]


def test_frees_alone_bound_what_was_in_use_before_where_the_snapshot_has_no_segments() -> None:
    device = read_snapshot(
        dumped(snapshot(timed([event("alloc", MIB, 1), event("free_completed", 4 * MIB, 9)])))
    ).devices[0]
    assert device.peak is not None
    assert (device.peak.before, device.peak.size) == (3 * MIB, 4 * MIB)


def test_segments_whose_blocks_do_not_add_up_are_withheld() -> None:
    wrong = segment(block(512, "active_allocated", address=1)) | {"total_size": 50 * MIB, "allocated_size": 17 * MIB}
    device = read_snapshot(dumped(snapshot(STEP, segments=[wrong]))).devices[0]
    assert device.held is None
    assert device.peak is not None
    assert device.peak.size == 70 * MIB
    assert [doubt.name for doubt in device.doubts] == ["segments-inconsistent"]


def test_what_is_held_at_the_end_is_told_by_state() -> None:
    in_use = block(8 * MIB, "active_allocated", requested=7 * MIB, address=1)
    waiting = block(2 * MIB, "active_pending_free", address=2)
    segments = [
        segment(in_use, waiting, block(6 * MIB, address=3)),
        segment(block(20 * MIB, address=4)),
        segment(block(4 * MIB, address=5), block(4 * MIB, "active_allocated", address=6), expandable=True),
        segment(block(3 * MIB, "active_allocated", address=7), pool=(0, 1)),
    ]
    held = read_snapshot(dumped(snapshot(segments=segments))).devices[0].held
    assert held == Held(
        segments=4,
        expandable_segments=1,
        reserved=47 * MIB,
        active=17 * MIB,
        allocated=15 * MIB,
        requested=14 * MIB,
        blocks=3,
        split_free=6 * MIB,
        releasable=24 * MIB,
        largest_free=20 * MIB,
        private_pools=3 * MIB,
    )
    assert (held.free, held.rounding, held.fragmentation) == (30 * MIB, MIB, 30 / 47)


def test_a_snapshot_without_events_knows_no_peak() -> None:
    history = read_snapshot(
        dumped([segment(block(MIB, "active_allocated", address=1))])
    )  # memory_snapshot() is a bare list
    device = history.devices[0]
    assert device.peak is None
    assert [doubt.name for doubt in device.doubts] == ["no-history"]
    assert history.fullest is device


def test_each_device_has_its_own_history_under_its_own_number() -> None:
    other = timed([event("alloc", 7 * MIB, 1, FORWARD)])
    history = read_snapshot(dumped(snapshot([], STEP, other)))
    assert [(each.device, each.peak.size if each.peak else None) for each in history.devices] == [
        (1, 70 * MIB),
        (2, 7 * MIB),
    ]
    assert history.fullest.device == 1


def test_more_events_than_a_pickler_writes_in_one_batch_stay_in_order() -> None:
    events = timed([event("alloc", 1024, address, FORWARD) for address in range(2500)])
    events += timed([event("free_completed", 1024, address) for address in range(2500)])
    device = read_snapshot(dumped(snapshot(events))).devices[0]
    assert device.peak is not None
    assert (device.peak.size, device.peak.event, device.events) == (2500 * 1024, 2500, 5000)


def test_an_out_of_memory_error_is_told_with_what_the_allocator_held() -> None:
    events = timed(
        [
            event("segment_alloc", 90 * MIB, 1, FORWARD),
            event("alloc", 60 * MIB, 1, FORWARD),
            {**event("oom", 20 * MIB, frames=BACKWARD), "device_free": 3 * MIB},
            event("snapshot", 0),
        ]
    )
    kept = segment(block(60 * MIB, "active_allocated", address=1), block(30 * MIB, address=2))
    device = read_snapshot(dumped(snapshot(events, segments=[kept]))).devices[0]
    expected = OutOfMemory(20 * MIB, 3 * MIB, 60 * MIB, 90 * MIB, "train.py:20 train", at_end=True)
    assert device.out_of_memory == (expected,)
    assert expected.held_free == 30 * MIB


def test_a_retry_is_told_from_an_explicit_flush_by_its_stack() -> None:
    retry = [event("segment_free", 8 * MIB, 1, FORWARD), event("segment_free", 4 * MIB, 2, FORWARD)]
    events = timed(
        [
            *retry,
            event("segment_alloc", 16 * MIB, 3, FORWARD),
            event("segment_free", 2 * MIB, 4, EMPTY_CACHE),
            event("segment_alloc", 2 * MIB, 5, FORWARD),
        ]
    )
    churn = read_snapshot(dumped(snapshot(events))).devices[0].churn
    assert churn == Churn(
        segment_allocs=2,
        segment_frees=3,
        freed=14 * MIB,
        retries=1,
        retry_site="train.py:10 forward",
        flushes=1,
        flush_site="train.py:40 train",
    )


def test_expandable_segments_count_maps_and_unmaps_as_reserved_memory() -> None:
    events = timed(
        [event("segment_map", 20 * MIB, 1), event("segment_unmap", 8 * MIB, 1), event("alloc", MIB, 1, FORWARD)]
    )
    settings = {"expandable_segments": True, "max_split_size": -1}
    kept = segment(block(MIB, "active_allocated", address=1), block(11 * MIB, address=2), expandable=True)
    history = read_snapshot(dumped(snapshot(events, segments=[kept], allocator_settings=settings)))
    assert (history.expandable, history.expandable_segments, history.max_split_bytes) == (True, True, None)
    assert history.devices[0].peak_reserved == 20 * MIB


def test_a_record_without_allocations_has_no_peak() -> None:
    device = read_snapshot(
        dumped(snapshot(timed([event("free_requested", MIB, 1), event("free_requested", MIB, 2)])))
    ).devices[0]
    assert device.peak is None
    assert [doubt.name for doubt in device.doubts] == ["actions-skipped"]


def test_categories_of_the_profiler_stand_before_what_stacks_tell() -> None:
    events = timed([event("alloc", 3, 1, FORWARD, category="parameter"), event("alloc", 2, 2, FORWARD)])
    peak = read_snapshot(dumped(snapshot(events))).devices[0].peak
    assert peak is not None
    assert peak.by_category == (Holding("parameter", 3), Holding("in forward", 2))


def test_no_directory_of_a_stack_is_shown() -> None:
    assert "somebody" not in repr(read_snapshot(dumped(snapshot(STEP))))


def test_an_allocation_without_a_stack_is_said_to_have_none() -> None:
    device = read_snapshot(dumped(snapshot(timed([event("alloc", 5, 1)])))).devices[0]
    assert device.peak is not None
    assert device.peak.by_site == (Holding("no stack recorded", 5),)
    assert [doubt.name for doubt in device.doubts] == ["no-stacks"]


def test_missing_frees_are_noticed() -> None:
    device = read_snapshot(
        dumped(snapshot(timed([event("alloc", 5, 1, FORWARD), event("alloc", 5, 1, FORWARD)])))
    ).devices[0]
    assert [doubt.name for doubt in device.doubts] == ["events-missing"]


def test_the_work_stops_when_the_caller_withdrew() -> None:
    def withdrawn() -> None:
        raise Cancelled("the call was cancelled")

    with pytest.raises(Cancelled):
        read_snapshot(dumped(snapshot(STEP)), check=withdrawn)


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": [1, 2]},
        [1, 2, 3],
        "text",
        {"segments": 5, "device_traces": []},
        {"segments": [{"total_size": "big"}], "device_traces": []},
        {"segments": [{"total_size": 5, "device": 0, "blocks": [{"size": 5}]}], "device_traces": []},
    ],
)
def test_other_pickles_are_named_as_foreign(value: object) -> None:
    with pytest.raises(UsageError, match="no CUDA allocator snapshot"):
        read_snapshot(dumped(value))


def test_an_empty_snapshot_says_what_to_do() -> None:
    with pytest.raises(UsageError, match="the snapshot is empty"):
        read_snapshot(dumped(snapshot([])))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": "5"},
        {"size": -1},
        {"size": 1 << 63},
        {"size": None},
        {"addr": [1]},
    ],
)
def test_an_event_that_makes_no_sense_is_damage(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="damaged"):
        read_snapshot(dumped(snapshot([event("alloc", 5, 1, FORWARD) | wrong])))


def test_a_held_of_nothing_has_no_fragmentation() -> None:
    nothing = Held(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert nothing.fragmentation == 0
    assert replace(nothing, reserved=4, active=1).fragmentation == 0.75
