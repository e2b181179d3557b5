"""The picture of a window: who did what, and never more boxes than a page can hold."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tracing.made import Made

from advisor_mcp.tracing import timeline as columns
from advisor_mcp.tracing.case import Case
from advisor_mcp.tracing.page.lanes import MOST_BOXES, Box, Lane, Picture, picture, said, worst_step
from advisor_mcp.tracing.timeline import Span, Timeline

NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
LOADING = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"


def lane(case: Case, title: str) -> Lane:
    return next(one for one in picture(case, worst_step(case)).lanes if one.title == title)


def test_streams_idle_time_and_the_calls_behind_them_are_drawn_from_the_windows_start() -> None:
    made = Made().kernel("ampere_sgemm_64x64", 100, 100, launch=50).kernel(NCCL, 150, 250, launch=60, stream=20)
    made.copy(500, 20, launch=490)
    copy = "Memcpy HtoD"
    assert picture(made.case(), None) == Picture(
        name=None,
        start=100_000,
        end=520_000,
        lanes=[
            Lane("GPU stream 1", "gpu", 250 / 420, [Box(50_000, 300_000, "communication", NCCL, 1, 250_000)]),
            Lane(
                "GPU stream 2",
                "gpu",
                120 / 420,
                [
                    Box(0, 100_000, "main", "ampere_sgemm_64x64", 1, 100_000),
                    Box(400_000, 420_000, "copy", copy, 1, 20_000),
                ],
            ),
            # the copy was launched 90 microseconds into the gap
            Lane(
                "Why the GPU was idle", "idle", 100 / 420, [Box(300_000, 400_000, "host", f"before {copy}", 1, 100_000)]
            ),
            Lane(
                "Host thread 1: calls to the GPU",
                "host",
                2 / 420,
                [Box(390_000, 392_000, "api_calls", "cudaMemcpyAsync", 1, 2_000)],
            ),
        ],
    )


def test_short_neighbours_are_drawn_as_one_box_that_says_how_much_of_it_they_fill() -> None:
    made = Made()
    for start in range(0, 20, 2):
        made.kernel("small", start, 1)
    made.kernel("longer", 20, 1.5).kernel("last", 999_990, 10)
    # a part of the window is a second / 2048, about 488 microseconds
    short, last = lane(made.case(), "GPU stream 1").boxes
    assert short == Box(0, 21_500, "other", "longer", 11, 11_500)
    assert short.busy_share == pytest.approx(11.5 / 21.5)
    assert last == Box(999_990_000, 1_000_000_000, "other", "last", 1, 10_000)


def test_a_box_of_many_has_the_kind_that_takes_most_of_its_time() -> None:
    made = Made().kernel(NCCL, 0, 3).kernel("add", 4, 2).kernel("mul", 7, 2).kernel("last", 999_990, 10)
    assert lane(made.case(), "GPU stream 1").boxes[0] == Box(0, 9_000, "other", NCCL, 3, 7_000)


def test_however_many_events_there_are_the_boxes_are_bounded_and_none_is_lost() -> None:
    made = Made()
    for number in range(5000):
        made.kernel(f"kernel_{number}", number * 20, 10)
    drawn = picture(made.case(), None)
    stream, idle = drawn.lanes
    assert sum(len(one.boxes) for one in drawn.lanes) <= MOST_BOXES
    assert sum(box.count for box in stream.boxes) == 5000
    assert sum(box.busy for box in stream.boxes) == 5000 * 10_000
    assert sum(box.count for box in idle.boxes) == 4999


def test_a_trace_of_hundreds_of_thousands_of_events_on_many_streams_is_bounded_too() -> None:
    count = 300_000
    start = np.arange(count, dtype=np.int64) * 3_000
    events = columns.device_events(
        start, start + 2_000, np.zeros(count), np.arange(count) % 40, np.arange(count) % 900, np.arange(count) % 4,
        np.full(count, -1), np.full(count, -1), np.full(count, 1),
    )  # fmt: skip
    nothing = np.empty(0, np.int64)
    host = columns.host_events(nothing, nothing, nothing, nothing, nothing, nothing, nothing.astype(np.int32))
    case = Case(Timeline("made", events, host, [f"kernel_{number}" for number in range(900)]), 0)
    drawn = picture(case, None)
    assert [one.title for one in drawn.lanes[-2:]] == ["33 further GPU streams", "Why the GPU was idle"]
    assert 0 < sum(len(one.boxes) for one in drawn.lanes) <= MOST_BOXES


def test_the_window_is_the_longest_step_and_events_are_cut_to_it() -> None:
    made = Made().steps(0, 100, 350, 450)
    for start in (0, 90, 300, 400):
        made.kernel("work", start, 60)
    case = made.case()
    assert worst_step(case) == Span("ProfilerStep#1", 100_000, 350_000)
    assert [(box.start, box.end) for box in lane(case, "GPU stream 1").boxes] == [(0, 50_000), (200_000, 250_000)]


def test_without_steps_there_is_no_worst_one() -> None:
    assert worst_step(Made().kernel("work", 0, 1).case()) is None


def test_a_thread_shows_its_outermost_operators_and_ranges_but_every_wait_for_data() -> None:
    made = Made().steps(0, 1000).kernel("work", 0, 10, launch=0).kernel("work", 990, 10, launch=300, call_dur=5)
    made.operator("aten::linear", 290, 40).operator("aten::addmm", 295, 20).operator("aten::relu", 340, 10)
    made.range("epoch", 10, 800).range(LOADING, 20, 200).range("forward", 280, 100)
    case = made.case()
    assert lane(case, "Host thread 1: named ranges").boxes == [
        Box(10_000, 810_000, "range", "epoch", 1, 800_000),
        Box(20_000, 220_000, "dataloader", LOADING, 1, 200_000),
    ]
    assert [box.name for box in lane(case, "Host thread 1: operators").boxes] == ["aten::linear", "aten::relu"]
    assert [(box.name, box.kind) for box in lane(case, "Host thread 1: calls to the GPU").boxes] == [
        ("cudaLaunchKernel", "launch"),
        ("cudaLaunchKernel", "launch"),
    ]


def test_a_call_that_waits_for_the_device_is_told_from_one_that_does_not() -> None:
    made = Made().kernel("work", 0, 100, launch=0).call("cudaStreamSynchronize", 10, 95).call("cudaMalloc", 110, 20)
    made.kernel("work", 150, 10, launch=140)
    kinds = [(box.name, box.kind) for box in lane(made.case(), "Host thread 1: calls to the GPU").boxes]
    assert kinds == [
        ("cudaLaunchKernel", "launch"),
        ("cudaStreamSynchronize", "synchronisation"),
        ("cudaMalloc", "api_calls"),
        ("cudaLaunchKernel", "launch"),
    ]


def test_of_too_many_streams_the_least_busy_share_a_lane() -> None:
    made = Made()
    for stream in range(10):
        made.kernel("work", 0, 100 - stream, stream=stream)
    titles = [one.title for one in picture(made.case(), None).lanes]
    assert titles == [*(f"GPU stream {place}" for place in range(1, 8)), "3 further GPU streams"]


def test_a_trace_without_a_device_shows_the_threads_that_did_most() -> None:
    made = Made().steps(0, 100).operator("aten::mm", 10, 30).event("cpu_op", "aten::add", 20, 5, tid=2)
    assert [(one.title, [box.name for box in one.boxes]) for one in picture(made.case(), None).lanes] == [
        ("Host thread 1: operators", ["aten::mm"]),
        ("Host thread 2: operators", ["aten::add"]),
    ]


def test_the_longest_pieces_are_the_devices_where_there_is_one() -> None:
    made = Made().kernel("long", 0, 50, launch=0).kernel("short", 60, 5, launch=1).operator("aten::mm", 0, 65)
    found = picture(made.case(), None).longest
    assert [(row.title, box.name) for row, box in found] == [
        ("GPU stream 1", "long"),
        ("Why the GPU was idle", "before short"),
        ("GPU stream 1", "short"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("aten::linear", "aten::linear"),
        ("/home/alice/secret/train.py(12): step", "train.py(12): step"),
        ("C:\\Users\\alice\\train.py(12): step", "train.py(12): step"),
        ("C:\\Program Files (x86)\\alice\\train.py(12): step", "train.py(12): step"),
        ("fc1/fc2", "fc1/fc2"),
        ("two\nlines\tof  it", "two lines of it"),
        ("x" * 200, "x" * 89 + "…"),
    ],
)
def test_a_hosts_name_is_one_short_line_without_folders(name: str, shown: str) -> None:
    assert said(name) == shown
