"""What makes a trace's figures less sure is said before them, and lowers or withholds what it touches."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any, cast

import pytest
from tests.tracing.made import Made

from advisor_mcp.tracing.diagnosis import diagnose
from advisor_mcp.tracing.families import GATES, JOB, TIMELINE
from advisor_mcp.tracing.kineto import read_kineto


def healthy() -> Made:
    """Ten steps of 1 ms, busy for 0.99 of it, launched far ahead."""
    made = Made()
    for step in range(10):
        start = 1000 * step
        for part in range(9):
            made.kernel(
                f"sm90_xmma_gemm_bf16_{part}", start + 110 * part, 110, launch=start - 500 + part, grid=[264, 1, 1]
            )
    return made.steps(*range(0, 11_000, 1000))


def test_a_healthy_trace_raises_no_doubt_and_has_no_finding() -> None:
    assert healthy().doubts() == []
    assert healthy().found() == {}


def test_a_trace_of_the_host_alone_says_nothing_of_a_gpu() -> None:
    assert Made().operator("aten::mm", 0, 100).doubts() == ["no-gpu-events"]


def test_without_the_hosts_calls_idle_time_has_no_cause_and_no_finding_names_one() -> None:
    made = Made().kernel("gemm", 0, 10).kernel("gemm", 100, 10)
    assert made.doubts() == ["gpu-only-trace"]
    assert made.found() == {}


def test_start_up_in_the_window_lowers_what_is_said_of_the_host() -> None:
    made = healthy().kernel("gemm", 60_000, 10, launch=59_990).call("cuModuleLoadData", 10_000, 49_000)
    assert "startup-in-window" in made.doubts()
    lowered = {one.kind.name: one.lowered_by for one in made.diagnosis().findings}
    assert all("startup-in-window" in by for name, by in lowered.items() if name == "launch-bound")


def test_a_call_of_a_millisecond_that_waits_for_the_device_is_no_start_up() -> None:
    made = healthy().call("cudaStreamSynchronize", 9_900, 50_000).kernel("gemm", 60_000, 10, launch=59_950)
    assert "startup-in-window" not in made.doubts()


def test_a_pause_between_two_nodes_of_one_replay_is_work_that_was_not_recorded() -> None:
    made = Made().call("cudaGraphLaunch", 0, 5)
    made.events[-1]["args"] = {"correlation": 77}
    for start in (10, 20, 600):
        made.event("kernel", "gemm", start, 10, {"device": 0, "stream": 7, "correlation": 77}, tid=7, pid=0)
    assert made.doubts() == ["graph-replay-unrecorded"]


def test_a_replay_without_any_event_was_not_recorded() -> None:
    made = healthy().call("cudaGraphLaunch", 5, 5)
    made.events[-1]["args"] = {"correlation": 9999}
    assert made.doubts() == ["graph-replay-unrecorded"]


def test_an_event_that_ends_after_the_next_one_on_its_stream_started_has_a_wrong_duration() -> None:
    made = healthy().kernel("broken", 3000, 6000, launch=2900)
    assert made.doubts() == ["overlong-event"]
    assert all("overlong-event" in one.lowered_by for one in made.diagnosis().findings)


def test_a_dependent_launch_may_overlap_its_predecessor_by_microseconds() -> None:
    made = Made()
    for place in range(100):
        made.kernel("gemm", 100 * place, 104, launch=100 * place - 1000, grid=[264, 1, 1])
    assert made.doubts() == []


def test_events_without_launch_are_counted_and_said() -> None:
    made = healthy()
    for place in range(5):
        made.kernel("gemm", 10_000 + 10 * place, 10)
    assert made.doubts() == ["unlinked-gpu-events"]


def test_one_step_that_is_far_longer_than_the_others_is_said() -> None:
    made = healthy().steps(11_000, 20_000)
    made.events[-1]["name"] = "ProfilerStep#10"
    assert made.doubts() == ["span-within-steps", "uneven-steps"]


def test_a_file_that_breaks_off_is_read_as_far_as_it_goes_and_that_is_said() -> None:
    text = healthy().text()
    timeline = read_kineto(cast(Any, BytesIO(text[: len(text) // 2].encode())), "cut")
    assert [gate.kind.name for gate in diagnose([timeline]).gates] == ["truncated-json"]
    assert 0 < timeline.events < len(json.loads(text)["traceEvents"])


@pytest.mark.parametrize("family", [GATES, TIMELINE, JOB], ids=["gates", "timeline", "job"])
def test_every_page_has_its_sections(family: Any) -> None:
    wanted = {"Formula", "Threshold", "Could also be", "Change", "Next measurement", "References"}
    for name, kind in family.kinds().items():
        assert wanted <= set(kind.sections), name
        assert kind.items("Could also be"), name
        assert kind.items("References"), name
        assert not kind.page.startswith("##"), name


def test_what_a_gate_lowers_or_withholds_exists() -> None:
    known = {*TIMELINE.kinds(), *JOB.kinds(), "all", "idle"}
    for name, kind in GATES.kinds().items():
        assert {*kind.items("Lowers"), *kind.items("Withholds")} <= known, name


def test_a_device_that_idles_while_the_host_waits_for_it_was_not_recorded_whole() -> None:
    made = (
        Made().kernel("gemm", 10, 10, launch=0).call("hipMemcpyWithStream", 15, 980).kernel("gemm", 1000, 10, launch=12)
    )
    assert made.doubts() == ["unrecorded-work"]


def test_a_device_that_works_while_the_host_waits_for_it_raises_no_doubt() -> None:
    made = (
        Made()
        .kernel("gemm", 10, 980, launch=0)
        .call("cudaDeviceSynchronize", 15, 980)
        .kernel("gemm", 1000, 10, launch=998)
    )
    assert made.doubts() == []


def test_steps_that_are_much_longer_than_the_devices_span_are_doubted() -> None:
    made = Made().steps(0, 2000)
    for place in range(10):
        made.kernel("gemm", 1000 + 100 * place, 100, launch=990 + place)
    assert made.doubts() == ["span-within-steps"]


def test_a_handful_of_kernels_shows_no_run() -> None:
    names = [gate.kind.name for gate in Made().kernel("gemm", 0, 10, launch=-5).diagnosis().gates]
    assert names == ["few-kernels"]


def ranks(*given: int, world: int = 0, name: str = "gemm") -> list[Any]:
    """A trace for each of the given ranks."""
    found = []
    for place, rank in enumerate(given):
        made = Made()
        made.head["distributedInfo"] = {"rank": rank, "world_size": world or len(given)}
        for part in range(12):
            made.kernel(name if name == "gemm" else f"{name}_{place}", 100 * part, 100, launch=-5000)
        found.append(made.timeline(f"file{place}"))
    return found


def job_doubts(timelines: list[Any]) -> dict[str, str]:
    return {gate.kind.name: gate.seen.message for gate in diagnose(timelines).gates if gate.kind.name != "few-kernels"}


def test_all_ranks_of_a_job_raise_no_doubt() -> None:
    assert job_doubts(ranks(0, 1, 2)) == {}


def test_a_rank_that_comes_twice_is_no_job_and_its_traces_are_told_apart_by_their_files() -> None:
    assert job_doubts(ranks(0, 0)) == {"not-one-job": "The traces may not be ranks of one job: rank 0 comes 2 times."}
    assert [case.label for case in diagnose(ranks(0, 0)).cases] == ["file0, device 0", "file1, device 0"]


def test_traces_that_share_no_kernel_are_no_job() -> None:
    assert job_doubts(ranks(0, 1, name="own")) == {
        "not-one-job": "The traces may not be ranks of one job: file0 and file1 hardly share a kernel."
    }


def test_ranks_that_are_missing_are_counted() -> None:
    assert job_doubts(ranks(0, 1, world=128)) == {"missing-ranks": "2 of the job's 128 ranks are here."}
