"""`advisor-mcp diagnose-trace FILE --html OUT`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from tests.tracing.made import Made
from tests.tracing.page.samples import CLOSING, FILE, GEMM, IMAGE, SCRIPT, SECRETS, hostile, training, written

import advisor_mcp
from advisor_mcp import cli
from advisor_mcp.tracing.page.view import page


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = cli.main(["diagnose-trace", *(str(word) for word in words)])
    out, err = capsys.readouterr()
    return code, out, err


def quiet() -> Made:
    """A trace in which nothing is to be found."""
    made = Made().steps(0, 1000, 2000, 3000)
    for place in range(3):
        made.kernel(f"{GEMM}_{place}", place * 1000, 998, launch=place, grid=[264, 1, 1])
    return made


def test_the_page_is_written_and_the_summary_is_printed_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = training().write(tmp_path / "trace.json"), tmp_path / "page.html"
    summary = advisor_mcp.call("diagnose_trace", trace=[str(trace)]).summary
    code, printed, said = run(capsys, trace, "--html", out)
    size = f"{out.stat().st_size / 1000:,.0f} kB"
    assert (code, said) == (1, "")
    assert printed == f"{summary}\nThe page is in {out} ({size}); open it in a browser.\n"
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>\n<html lang=")


def test_a_trace_without_findings_ends_with_0_and_a_page_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    assert run(capsys, quiet().write(tmp_path / "trace.json"), "--html", out)[0] == 0
    assert "there is nothing to report" in out.read_text(encoding="utf-8")


def test_with_json_the_answer_alone_is_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, out = training().write(tmp_path / "trace.json"), tmp_path / "page.html"
    code, printed, said = run(capsys, trace, "--html", out, "--json", "--detail", "full")
    assert code == 1
    assert json.loads(printed) == advisor_mcp.call("diagnose_trace", trace=[str(trace)], detail="full").data()
    assert said.startswith(f"The page is in {out} (")


def test_a_page_that_is_there_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, out = quiet().write(tmp_path / "trace.json"), tmp_path / "page.html"
    run(capsys, trace, "--html", out)
    first = out.read_bytes()
    out.write_text("<!DOCTYPE html><p>old", encoding="utf-8")
    assert run(capsys, trace, "--html", out)[0] == 0
    assert out.read_bytes() == first


def test_a_file_that_is_no_page_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = quiet().write(tmp_path / "trace.json")
    before = trace.read_bytes()
    assert run(capsys, trace, "--html", trace) == (
        2,
        "",
        f"advisor-mcp: '{trace}' is there and is no HTML page; name another file for the page\n",
    )
    assert trace.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{}", "'{}' cannot be a page; name a file, such as trace.html"),
        ("", "'' cannot be a page; name a file, such as trace.html"),
        ("{}/none/page.html", "there is no folder '{}/none' for the page; make it, or name another"),
        ("{}/" + "x" * 280, "cannot be written: file name too long; name another file for the page"),
    ],
)
def test_a_place_where_no_page_can_be_is_refused_in_one_sentence_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, sentence: str
) -> None:
    code, printed, said = run(capsys, tmp_path / "no trace.json", "--html", place.format(tmp_path))
    assert (code, printed) == (2, "")
    assert said.startswith("advisor-mcp: ")
    assert sentence.format(tmp_path) in said


def test_a_file_that_may_not_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may write anywhere
    code, _, said = run(capsys, tmp_path / "no trace.json", "--html", tmp_path / "page.html")
    assert code == 2
    assert said.endswith("cannot be written; name a file in a folder that you may write to\n")


def test_a_name_from_the_trace_stays_text_wherever_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    run(capsys, hostile().write(tmp_path / FILE), "--html", out)
    text = out.read_text(encoding="utf-8")
    for name in (SCRIPT, IMAGE, CLOSING, "<img"):
        assert name not in text
    assert "&lt;script&gt;window.owned = 1&lt;/script&gt;" in text
    assert "&lt;img src=x onerror=window.owned=4&gt;.json" in text
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text)) == 2


def test_half_of_a_surrogate_pair_in_a_name_is_a_replacement_character(tmp_path: Path) -> None:
    made = training().kernel("half \ud800", 5000, 3000, launch=4990).steps(5000, 8000)
    found = advisor_mcp.call("diagnose_trace", trace=[str(made.write(tmp_path / "trace.json"))], detail="full").data()
    assert found["top_kernels"][0]["kernel"] == "half \N{REPLACEMENT CHARACTER}"


def test_users_hosts_jobs_and_paths_of_a_trace_are_not_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    made = hostile().event("python_function", "/home/alice/secret/train.py(9): wait", 6900, 3000)
    made.kernel("late", 9800, 10, launch=9790)
    run(capsys, made.write(tmp_path / "trace.json"), "--html", out)
    text = out.read_text(encoding="utf-8")
    assert "train.py(9): wait" in text
    assert [secret for secret in (*SECRETS.values(), "alice", "/home/", str(tmp_path)) if secret in text] == []


def test_the_page_loads_nothing_and_allows_its_own_script_and_style_alone(tmp_path: Path) -> None:
    text = page(training().diagnosis(), None, ["trace.json"])
    assert re.findall(r"""(?:src|href|action|data)=["'](?!#|https://|data:,)""", text) == []
    assert re.findall(r"<(?:link|script|img|iframe|object)\b[^>]*(?:src|href)=\"https?:", text) == []
    assert "url(http" not in text
    assert "@import" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; "
        r"base-uri 'none'; form-action 'none'",
        policy[1].replace("&#39;", "'"),
    )
    assert ' style="' not in text
    assert " onclick" not in text


def test_the_same_trace_gives_the_same_page() -> None:
    assert page(training().diagnosis(), None, ["a"]) == page(training().diagnosis(), None, ["a"])


def test_a_page_stays_below_a_megabyte_however_long_and_odd_the_names_are() -> None:
    made = Made().steps(0, 120_000)
    for number in range(6_000):
        name = f'"<&>{number}' + "<\u00e9\"'&" * 40
        made.kernel(name, number * 20, 10 + number % 10, launch=number * 20 - 8, stream=number % 12)
        made.operator(name, number * 20 - 9, 8)
    assert len(page(made.diagnosis(), None, ["x" * 300]).encode()) < 1_000_000


def test_every_rank_and_the_change_since_a_baseline_stand_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks, out = written(tmp_path), tmp_path / "page.html"
    run(capsys, *ranks, "--baseline", ranks[0], "--baseline", ranks[1], "--html", out)
    text = out.read_text(encoding="utf-8")
    assert [name for name in ("Rank 0, GPU 0", "Rank 1, GPU 0") if f"<strong>{name}</strong>" in text] == [
        "Rank 0, GPU 0",
        "Rank 1, GPU 0",
    ]
    assert "Compared with the trace before" in text
    assert "<td>Exposed communication</td>" in text


def test_records_of_memory_and_compilation_have_pages_without_a_timeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, out = tmp_path / "memory.json", tmp_path / "page.html"
    # time in nanoseconds, action (1: there before, 2: created), bytes, category (0: parameter, 4: activation)
    record.write_text(json.dumps([[-1, 1, 1 << 29, 0], [1000, 2, 1 << 30, 4]]), encoding="utf-8")
    code, printed, _ = run(capsys, record, "--html", out)
    assert (code, printed.partition(";")[0]) == (0, "GPU memory peaks at 1.5 GiB (1,610,612,736 bytes)")
    text = out.read_text(encoding="utf-8")
    assert "<h1>Where the memory went</h1>" in text
    assert 'id="timeline"' not in text
