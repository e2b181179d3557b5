"""`advisor-mcp lint` and `advisor-mcp rule` as people and programs use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp import cli

MISMATCH = (
    '{\n  "train_batch_size": 9,\n  "train_micro_batch_size_per_gpu": 4,\n  "gradient_accumulation_steps": 2\n}\n'
)
TYPO = '{"train_micro_batch_size_per_gpu": 4, "bf16": {"enabled": "true"}}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ds.json").write_text(MISMATCH, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["lint", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_text_shows_the_line_and_a_caret(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "ds.json")
    assert code == 1
    lines = said.splitlines()
    assert lines[0].startswith("ds.json:2:3: error DS001 ")
    assert lines[1:3] == ['    2 |   "train_batch_size": 9,', "      |   ^^^^^^^^^^^^^^^^^^"]
    assert said.endswith("1 file checked: 1 error.\n")


def test_json_has_findings_and_what_was_not_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "ds.json", "--format", "json")
    found: dict[str, Any] = json.loads(said)
    assert code == 1
    assert set(found) == {"summary", "findings", "not_checked", "assumed", "files", "tools"}
    finding = found["findings"][0]
    assert (finding["rule"], finding["severity"], finding["line"], finding["column"]) == ("DS001", "error", 2, 3)
    assert finding["fix"]["edits"][0]["file"] == "ds.json"
    assert json.loads(run(capsys, "ds.json", "--json")[1]) == found


def test_sarif_names_its_version_rule_and_region(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "ds.json", "--format", "sarif")[1])
    assert found["version"] == "2.1.0"
    (one,) = found["runs"]
    assert [rule["id"] for rule in one["tool"]["driver"]["rules"]] == ["DS001"]
    result = one["results"][0]
    assert (result["ruleId"], result["ruleIndex"], result["level"]) == ("DS001", 0, "error")
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "ds.json"},
        "region": {"startLine": 2, "startColumn": 3, "endLine": 2, "endColumn": 21},
    }


def test_github_and_concise_are_a_line_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(capsys, "ds.json", "--format", "github")[1]
    assert said.startswith(
        "::error file=ds.json,line=2,col=3,endLine=2,endColumn=21,title=DS001 mismatched-batch-arithmetic::"
    )
    assert run(capsys, "ds.json", "--format", "concise")[1].startswith("ds.json:2:3: error DS001 ")


def test_a_clean_file_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ds.json").write_text('{"train_micro_batch_size_per_gpu": 4}', encoding="utf-8")
    code, said = run(capsys, "ds.json", "--target", "deepspeed=0.19.8")
    assert (code, said) == (0, "1 file checked: nothing to report.\n")


def test_safe_fixes_are_written_and_others_only_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "typo.json").write_text(TYPO, encoding="utf-8")
    code, said = run(capsys, "typo.json", "--fix")
    assert (code, (folder / "typo.json").read_text(encoding="utf-8")) == (0, TYPO.replace('"true"', "true")), said
    assert run(capsys, "ds.json", "--fix")[0] == 1
    assert (folder / "ds.json").read_text(encoding="utf-8") == MISMATCH
    code, said = run(capsys, "ds.json", "--diff")
    assert '-  "train_batch_size": 9,\n' in said
    assert (folder / "ds.json").read_text(encoding="utf-8") == MISMATCH
    assert run(capsys, "ds.json", "--fix", "--unsafe-fixes")[0] == 0
    assert "train_batch_size" not in (folder / "ds.json").read_text(encoding="utf-8")


def test_line_ends_and_everything_else_survive_a_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '{\r\n\t"train_micro_batch_size_per_gpu": 4,\r\n\t"bf16": {"enabled": "true"}\r\n}'
    (folder / "crlf.json").write_bytes(text.encode())
    run(capsys, "crlf.json", "--fix")
    assert (folder / "crlf.json").read_bytes() == text.replace('"true"', "true").encode()


def test_the_exit_code_follows_the_severity_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "ds.json", "--fail-on", "never")[0] == 0
    assert run(capsys, "ds.json", "--ignore", "DS001")[0] == 0
    assert run(capsys, "ds.json", "--select", "MD")[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name the files or folders to lint"),
        (["nowhere.yaml"], "there is no file or folder 'nowhere.yaml'"),
        (["n" * 300], "cannot read 'nnn"),
        (["ds.json", "--target", "vllm"], "target must be TOOL=VERSION"),
        (["ds.json", "--select", "ZZ9"], "unknown rule 'ZZ9'"),
        (["ds.json", "--world-size", "0"], "is not a number of processes"),
        (["ds.json", "--formt", "json"], "unknown option '--formt'; did you mean '--format'?"),
        (["ds.json", "--model", "{"], "--model starts like JSON but is none"),
        (["ds.json", "--model", "qwn3-8b"], "unknown model 'qwn3-8b'; did you mean 'qwen3-8b'?"),
        (["ds.json", "--gpu", "h100sx"], "unknown GPU 'h100sx'; did you mean 'h100-sxm'?"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, *words)
    assert code == 2
    assert sentence in said
    assert said.count("\n") == 1


def test_a_rule_is_explained_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rule", "ds001"]) == 0
    assert "## Why is this bad?" in capsys.readouterr().out
    assert cli.main(["rule"]) == 0
    assert "DS001   error    mismatched-batch-arithmetic" in capsys.readouterr().out
    assert cli.main(["rule", "DS01"]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_the_tool_answers_for_texts_and_paths_alike(folder: Path) -> None:
    from advisor_mcp import call

    by_path = call("lint_config", config=[str(folder / "ds.json")]).data()
    by_text = call("lint_config", files={"ds.json": MISMATCH}).data()
    alone = call("lint_config", config=MISMATCH).data()
    for answer in (by_path, by_text, alone):
        (finding,) = answer["findings"]
        assert (finding["rule"], finding["line"], finding["column"], finding["harm"]) == ("DS001", 2, 3, "crash")
        assert finding["evidence"]
        assert finding["fix"]
    full = call("lint_config", files={"ds.json": MISMATCH}, detail="full").data()
    assert '-  "train_batch_size": 9,\n' in full["findings"][0]["diff"]


def test_over_a_network_texts_are_linted_and_paths_refused(folder: Path) -> None:
    from advisor_mcp import access, call
    from advisor_mcp.errors import UsageError

    with access.limited(None):
        assert call("lint_config", files={"ds.json": MISMATCH}).data()["findings"]
        with pytest.raises(UsageError, match="this server reads no paths"):
            call("lint_config", config=[str(folder / "ds.json")])
    with access.limited(folder):
        assert call("lint_config", config=["ds.json"]).data()["findings"]
        with pytest.raises(UsageError, match="outside the folder"):
            call("lint_config", config=["../other.json"])
