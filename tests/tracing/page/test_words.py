"""A diagnosis in plain words."""

from __future__ import annotations

import pytest
from tests.tracing.made import Made

from advisor_mcp.tracing.diagnosis import diagnose
from advisor_mcp.tracing.page import words
from advisor_mcp.tracing.page.graphics import Boxes, Chart
from advisor_mcp.tracing.page.lanes import NOTHING, picture
from advisor_mcp.tracing.report import report, worst_case

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
LOADING = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"


def lead(*made: Made) -> list[str]:
    found = diagnose([one.timeline() for one in made])
    return words.lead(found, worst_case(found), report(found, "full", 1 << 30))


def waiting() -> Made:
    """Three steps of a millisecond, each 400 microseconds of them waiting for data."""
    made = Made().steps(0, 1000, 2000, 3000)
    for start in (0, 1000, 2000):
        made.range(LOADING, start + 1, 395)
        for place in range(4):
            made.kernel(GEMM, start + 400 + 150 * place, 150, launch=start + 397 + place, grid=[264, 1, 1])
    return made


def test_the_lead_says_where_the_time_went_why_and_what_to_do_first() -> None:
    where, because, first = lead(waiting())
    # from the first kernel at 400 to the end at 3,000 microseconds: 1,800 busy, 800 idle
    assert where == "Of the 2.6 ms that were recorded, the GPU spent 69.2 % computing and 30.8 % doing nothing."
    assert because == "100 % of the idle time has one reason: the next batch of data was not ready."
    assert first.startswith("Do this first (dataloader-stall): DataLoader(num_workers=4 or more")
    # two waits of 395 microseconds lie in that span: 790 / 2,600
    assert first.endswith("That can save at most 30.4 % of the time.")


def test_a_busy_trace_is_said_to_need_nothing() -> None:
    made = Made().steps(0, 1000, 2000).kernel(GEMM, 0, 1000, launch=0, grid=[264, 1, 1])
    made.kernel(f"{GEMM}_2", 1000, 1000, launch=1, grid=[264, 1, 1])
    told = lead(made)
    assert told[0] == "Of the 2 ms that were recorded, the GPU spent 100 % computing."
    assert len(told) == 2


def test_figures_that_cannot_be_trusted_are_to_be_measured_again_first() -> None:
    made = Made()
    made.kernel("work", 0, 10, launch=0).call("cudaMalloc", 20, 9_000).kernel("work", 9_100, 10, launch=9_050)
    (again,) = [sentence for sentence in lead(made) if sentence.startswith("First measure again")]
    assert "cannot be trusted as they are" in again


def test_without_a_device_the_lead_says_what_the_trace_cannot_tell() -> None:
    assert lead(Made().steps(0, 100).operator("aten::mm", 0, 90))[0] == (
        "This trace recorded no work of a GPU, so it cannot say where a GPU's time went; "
        "if there was one, record it as well (see the doubts below)."
    )


def test_of_several_gpus_the_lead_names_the_one_that_it_is_about() -> None:
    slow = waiting().event("kernel", GEMM, 3000, 500, {"device": 0, "stream": 7})
    slow.head |= {"distributedInfo": {"rank": 3}}
    assert lead(waiting(), slow)[0].startswith(
        "Of the 3.1 ms that were recorded, the worst of 2 GPUs (rank 3, device 0) spent"
    )


@pytest.mark.parametrize(
    ("nanoseconds", "told"),
    [
        (0, "0 ns"), (850, "850 ns"), (999.6, "1 µs"), (8_206, "8.21 µs"), (176_273_000, "176 ms"), (999_600_000, "1 s"),
        (12_920_244_000, "12.9 s"), (1_234_567_000_000, "1,235 s"),
    ],
)  # fmt: skip
def test_a_time_is_said_with_three_digits_in_a_unit_that_fits(nanoseconds: float, told: str) -> None:
    assert words.time(nanoseconds) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0 %"), (0.04, "less than 0.1 %"), (3.44, "3.4 %"), (9.97, "10 %"), (54.62, "54.6 %"), (54, "54 %"), (99.98, "99.9 %"), (100, "100 %")],
)  # fmt: skip
def test_a_share_that_is_not_quite_all_or_nothing_is_not_called_so(value: float, told: str) -> None:
    assert words.share(value) == told


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("median_kernel_us", "Median kernel (µs)"), ("bus_bandwidth_gb_s", "Bus bandwidth (GB/s)"), ("gpus", "GPUs"),
        ("peak_gib", "Peak (GiB)"), ("compile_id", "Compile id"), ("idle_percent", "Idle (%)"),
    ],
)  # fmt: skip
def test_a_fields_name_is_a_heading_with_its_unit(field: str, told: str) -> None:
    assert words.heading(field) == told


def test_every_part_and_cause_of_a_comparison_has_its_name_on_the_page() -> None:
    before = {"part": "idle: dataloader", "before_ms": 1.0}
    told = words.compared(
        {"conclusion": "x", "per": "step", "parts": [before, {"part": "exposed_copy"}], "classes": []}
    )
    assert told == {
        "per": "step",
        "parts": [
            {"part": "Idle: the next batch of data was not ready", "before_ms": 1.0},
            {"part": "Exposed copying"},
        ],
        "classes": [],
    }


def test_ticks_are_round_and_about_six() -> None:
    case = Made().kernel("work", 0, 300).kernel("work", 1000, 300).case()
    ticks = Boxes(picture(case, None)).ticks
    assert [at for at, main in ticks if main] == [0, 500_000, 1_000_000]
    assert [at for at, _ in ticks][:6] == [0, 100_000, 200_000, 300_000, 400_000, 500_000]
    assert Boxes(NOTHING).ticks == [(0, True)]


def test_the_bars_of_a_step_stand_on_each_other_and_reach_as_high_as_it_is_long() -> None:
    made = Made().steps(0, 100, 300).kernel("work", 0, 50, launch=0).copy(50, 50, launch=1)
    made.kernel("work", 100, 200, launch=2)
    found = made.diagnosis()
    rows = report(found, "full", 1 << 30).step_rows or []
    bars = list(Chart(rows, parted=True).bars)
    assert [bar.kind for bar in bars] == ["compute", "exposed_copy", "compute"]
    short, copy, long = bars
    assert float(short.y) + float(short.height) == pytest.approx(Chart.FLOOR)
    assert float(copy.y) + float(copy.height) == pytest.approx(float(short.y))
    assert float(long.height) == pytest.approx(2 * (float(short.height) + float(copy.height)), abs=0.01)
    assert long.told == "ProfilerStep#1: computing 100.0 % of 0.2 ms"
