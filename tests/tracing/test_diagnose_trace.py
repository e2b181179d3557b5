"""diagnose_trace as a caller sees it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.tracing.made import V100, Made

import advisor_mcp
from advisor_mcp import access
from advisor_mcp.declaration import Silent
from advisor_mcp.errors import Cancelled, CannotAnswer, UsageError
from advisor_mcp.tracing.reading import read_evidence

GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64"
NCCL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def stepped(times: list[float], idle: float = 100, name: str = GEMM) -> Made:
    """Steps of the given microseconds, each idle at its start because the host launches late."""
    made, start, bounds = Made(), 0.0, [0.0]
    for time in times:
        busy = time - idle
        for part in range(4):
            made.kernel(
                f"{name}_{part}",
                start + idle + part * busy / 4,
                busy / 4,
                launch=start + idle - 6 + part,
                grid=[264, 1, 1],
            )
        start += time
        bounds.append(start)
    return made.steps(*bounds)


def ask(*paths: Path, **more: Any) -> dict[str, Any]:
    return advisor_mcp.call("diagnose_trace", trace=[str(path) for path in paths], **more).data()


def test_a_healthy_trace_has_nothing_to_report(tmp_path: Path) -> None:
    found = ask(stepped([1000] * 5, idle=5).write(tmp_path / "trace.json"))
    assert found["findings"] == []
    assert found["summary"] == (
        "Of 5.0 ms: 99.6 % compute, 0.0 % exposed communication, 0.0 % exposed copy, 0.4 % idle; nothing to report."
    )


def test_one_trace_may_be_given_without_a_list(tmp_path: Path) -> None:
    path = stepped([1000] * 5, idle=200).write(tmp_path / "trace.json")
    bare = advisor_mcp.call("diagnose_trace", trace=str(path), baseline=str(path)).data()
    assert bare == advisor_mcp.call("diagnose_trace", trace=[str(path)], baseline=[str(path)]).data()
    with pytest.raises(UsageError) as caught:
        advisor_mcp.call("diagnose_trace", trace="")
    assert caught.value.message == "diagnose_trace: trace must not be empty"


def test_the_parts_of_an_answer_sum_to_100(tmp_path: Path) -> None:
    made = stepped([1000] * 5).kernel(NCCL, 4990, 300, launch=0, stream=20).copy(5300, 33.3, launch=0)
    (device,) = ask(made.write(tmp_path / "trace.json"))["devices"]
    names = ("compute_percent", "exposed_communication_percent", "exposed_copy_percent", "idle_percent")
    assert sum(device[name] for name in names) == pytest.approx(100, abs=0.02)


def test_a_compressed_trace_under_any_name_is_read_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "whatever.bin"
    path.write_bytes(gzip.compress(stepped([1000] * 5, idle=200).text().encode()))
    assert [row["name"] for row in ask(path)["findings"]] == ["launch-bound"]


def test_several_files_and_a_folder_are_one_job(tmp_path: Path) -> None:
    for rank in range(3):
        made = stepped([1000] * 4, idle=200 + 100 * rank)
        made.head["distributedInfo"] = {"rank": rank, "world_size": 3}
        made.write(tmp_path / f"rank{rank}.json")
    (tmp_path / "notes.txt").write_text("no trace", encoding="utf-8")
    one_by_one, folder = ask(*sorted(tmp_path.glob("rank*.json"))), ask(tmp_path)
    assert folder == one_by_one
    assert [row["rank"] for row in ask(tmp_path, detail="full")["devices"]] == [0, 1, 2]
    (bound,) = [row for row in folder["findings"] if row["name"] == "launch-bound"]
    assert bound["where"] == "3 of 3 devices, worst rank 2, device 0"


def test_a_job_of_many_ranks_keeps_to_the_size_of_an_answer(tmp_path: Path) -> None:
    for rank in range(40):
        made = stepped([1000 + rank] * 30, idle=200 + rank, name="a_kernel_with_a_rather_long_name_" * 3)
        made.head["distributedInfo"] = {"rank": rank, "world_size": 40}
        made.write(tmp_path / f"rank{rank:02}.json")
    for detail, most in (("brief", 2_400), ("full", 16_000)):
        answer = advisor_mcp.call("diagnose_trace", trace=[str(tmp_path)], detail=detail)
        assert max(len(answer.json_text().encode()), len(answer.text().encode())) <= most
        assert any("further devices" in part for part in answer.data().get("omitted", ())) or detail == "full"


def test_two_traces_of_the_same_work_are_compared_step_by_step(tmp_path: Path) -> None:
    before = stepped([1000, 1010, 990, 1005, 995], idle=300).write(tmp_path / "before.json")
    after = stepped([800, 810, 790, 805, 795], idle=100).write(tmp_path / "after.json")
    found = ask(after, baseline=[str(before)])["comparison"]
    assert (found["per"], found["time_ratio"]) == ("step", 0.8)
    assert found["p_value"] == pytest.approx(2 / 252, abs=1e-4)  # all 5 against all 5: 2 of the 10 over 5 orders
    assert "no_conclusion" not in found
    moved = {row["part"]: row["change_ms"] for row in found["parts"]}
    assert moved["idle"] == pytest.approx(-0.2, abs=0.07)
    assert moved["compute"] == pytest.approx(0.0, abs=1e-3)


def test_steps_that_vary_as_much_as_they_differ_show_no_difference(tmp_path: Path) -> None:
    before = stepped([1000, 1300, 900, 1100], idle=300).write(tmp_path / "before.json")
    after = stepped([1050, 1250, 950, 1080], idle=300).write(tmp_path / "after.json")
    assert ask(after, baseline=[str(before)])["summary"].startswith("No difference shown yet: the median step takes ")


def test_traces_of_other_devices_or_other_work_allow_no_conclusion(tmp_path: Path) -> None:
    before = stepped([1000] * 5, idle=300)
    before.head["deviceProperties"] = [V100]
    other = ask(
        stepped([800] * 5).write(tmp_path / "after.json"), baseline=[str(before.write(tmp_path / "before.json"))]
    )
    assert other["comparison"]["no_conclusion"] == ["the devices differ (Tesla V100-SXM2-32GB, NVIDIA H100 80GB HBM3)"]
    assert "time_ratio" not in other["comparison"]
    few, many = Made(), Made()
    for place in range(30):
        many.kernel(GEMM, 20 * place, 10)
        if place < 15:
            few.kernel(GEMM, 20 * place, 10)
    work = ask(many.write(tmp_path / "many.json"), baseline=[str(few.write(tmp_path / "few.json"))])
    assert work["comparison"]["no_conclusion"] == [
        "without steps in both, 15 kernels stand against 30: the windows hold different work"
    ]


def test_a_doubt_about_a_trace_stands_in_the_way_of_a_conclusion(tmp_path: Path) -> None:
    text = stepped([1000] * 5).text()
    cut = tmp_path / "cut.json"
    cut.write_text(text[:-200], encoding="utf-8")
    whole = stepped([1000] * 5).write(tmp_path / "whole.json")
    assert (
        "the second is not to be trusted (truncated-json)"
        in ask(cut, baseline=[str(whole)])["comparison"]["no_conclusion"]
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (gzip.compress(b""), "is empty"),
        (b"hello there\n", "is no trace: nothing in it is known"),
        (b"PK\x03\x04rest", "is no trace: it is a zip archive: unpack it and give the trace inside"),
        (b'{"a": 1}', "holds no trace that can be read: no list of events"),
        (b'[{"a": 1}]', "holds no trace that can be read: no event in it has a phase"),
        (b"\x1f\x8bgarbage", "is a damaged gzip file"),
        (bytes(257) + b"ustar", "is no trace: it is a tar archive: unpack it and give the trace inside"),
    ],
)
def test_a_file_that_is_no_trace_gets_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(CannotAnswer) as refused:
        ask(path)
    assert sentence in refused.value.message
    assert refused.value.needs


def test_a_path_without_file_says_so() -> None:
    with pytest.raises(
        UsageError, match=r"there is no file '/nowhere/trace.json'; name a trace as the profiler wrote it"
    ):
        ask(Path("/nowhere/trace.json"))


def test_over_the_network_only_the_operators_folder_is_read(tmp_path: Path) -> None:
    outside = stepped([1000] * 4).write(tmp_path / "outside.json")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.json").symlink_to(outside)
    with access.limited(root):
        for path in ("../outside.json", "link.json", str(outside)):
            with pytest.raises(UsageError, match="lies outside the folder that this server may read"):
                advisor_mcp.call("diagnose_trace", trace=[path])
        with pytest.raises(UsageError, match="lies outside the folder"):
            advisor_mcp.call("diagnose_trace", trace=["."])


def test_a_cancelled_call_stops_reading(tmp_path: Path) -> None:
    path, progress = stepped([1000] * 5).write(tmp_path / "trace.json"), Silent()
    progress.cancel()
    with pytest.raises(Cancelled):
        read_evidence([str(path)], progress)


def test_what_a_trace_says_of_its_user_and_host_is_not_told(tmp_path: Path) -> None:
    made = stepped([1000] * 5, idle=300)
    secrets = {
        "username": "secretuser",
        "host_name": "secrethost",
        "trace_id": "secretid",
        "mast_job_name": "secretjob",
    }
    made.head |= secrets | {"traceName": "/home/secretuser/secretpath/trace.json"}
    answer = advisor_mcp.call("diagnose_trace", trace=[str(made.write(tmp_path / "t.json"))], detail="full")
    assert "secret" not in answer.text() + json.dumps(answer.data())


def test_memory_and_compilation_stand_beside_the_timeline(tmp_path: Path) -> None:
    rows = [[-1, 1, 1000, 0], [10, 2, 500, 4], [20, 4, -500, 4]]
    (tmp_path / "memory.json").write_text(json.dumps(rows), encoding="utf-8")
    found = ask(stepped([1000] * 5, idle=5).write(tmp_path / "trace.json"), tmp_path / "memory.json")
    assert found["memory"]["gpus"][0]["peak_bytes"] == 1500
    assert found["devices"][0]["idle_percent"] == 0.4
