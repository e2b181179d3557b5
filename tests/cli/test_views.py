"""Views: flags of the command line alone, which show a tool's answer in another way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.samples import HEAD

from advisor_mcp import catalogue as catalogues
from advisor_mcp import cli, flags
from advisor_mcp.catalogue import ToolEntry
from advisor_mcp.declaration import Option, Shown, Tool, View
from advisor_mcp.errors import UsageError
from advisor_mcp.results import Answer

WAVE = '''
from advisor_mcp.declaration import Option, View
def wave(height: Annotated[int, Field(ge=1, description="How high")] = 1) -> Answer:
    """Make a wave. It is a toy."""
    return Answer(summary=f"A wave of {height}.")
TOOL = Tool(
    function=wave, title="Wave", toolset="sizing", examples=(),
    views={
        "page": View(function="tests.cli.test_views:printed", description="Write a page", metavar="FILE"),
        "live": View(
            function="tests.cli.test_views:printed", description="Keep showing it", metavar="SECONDS", default="1",
            options={"count": Option(metavar="N", description="End after N times")},
        ),
        "plain": View(function="tests.cli.test_views:printed", description="Show it plainly"),
    },
)
'''


def printed(shown: Shown) -> int:
    """Print what a view is called with."""
    shown.progress.check()
    print(json.dumps([dict(shown.arguments), shown.value, dict(shown.options), shown.as_json]))
    return 7


@pytest.fixture
def entry(root: Path, tmp_path: Path) -> Iterator[ToolEntry]:
    folder = tmp_path / "mine"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "wave.py").write_text(HEAD + WAVE, encoding="utf-8")
    yield catalogues.build([folder]).tools["wave"]
    sys.modules.pop("advisor_mcp.tools.wave", None)


def run(capsys: pytest.CaptureFixture[str], entry: ToolEntry, *words: str) -> tuple[int, str, str]:
    code = cli.main(["--content", str(entry.path.parents[1]), "wave", *words])
    out, err = capsys.readouterr()
    return code, out.strip(), err.strip()


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["--page", "a.html", "--height", "3"], [{"height": 3}, "a.html", {}, False]),
        (["--live"], [{"height": 1}, "1", {}, False]),
        (["--live", "--height", "3"], [{"height": 3}, "1", {}, False]),
        (["--count", "4", "--live", "0.5", "--json"], [{"height": 1}, "0.5", {"count": "4"}, True]),
        (["--plain"], [{"height": 1}, None, {}, False]),
    ],
)
def test_a_view_is_called_with_arguments_value_and_options_and_gives_the_exit_code(
    capsys: pytest.CaptureFixture[str], entry: ToolEntry, words: list[str], called: list[object]
) -> None:
    assert run(capsys, entry, *words) == (7, json.dumps(called), "")


def test_without_a_view_the_answer_is_printed(capsys: pytest.CaptureFixture[str], entry: ToolEntry) -> None:
    assert run(capsys, entry, "--height", "2") == (0, "A wave of 2.", "")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--page"], "argument --page: expected one argument; see 'advisor-mcp wave --help'"),
        (["--page", "x", "--live"], "--page and --live are two ways to show one answer; give one of them"),
        (["--count", "4"], "--count goes with --live"),
        (["--plain", "--count", "4"], "--count goes with --live"),
        (["--plane"], "unknown option '--plane'; did you mean '--plain'?"),
        (["--live", "--height", "0"], "wave: height must be at least 1, not 0"),
    ],
)
def test_a_view_that_cannot_be_shown_is_refused_in_one_sentence(
    capsys: pytest.CaptureFixture[str], entry: ToolEntry, words: list[str], sentence: str
) -> None:
    assert run(capsys, entry, *words) == (2, "", f"advisor-mcp: {sentence}")


def test_help_lists_views_and_their_options_after_the_arguments(entry: ToolEntry) -> None:
    listed = flags.help_text(entry).partition("Options:\n")[2]
    assert listed.splitlines() == [
        "  --height N        How high (default: 1)",
        "  --page FILE       Write a page",
        "  --live [SECONDS]  Keep showing it (default: 1)",
        "  --count N         End after N times (with --live)",
        "  --plain           Show it plainly",
        "  --json            Print the structured answer as JSON",
        "  -h, --help        Show this text",
    ]


def test_a_client_of_the_server_sees_no_view(entry: ToolEntry) -> None:
    assert list(entry.input_schema["properties"]) == ["height"]


def test_a_tool_without_views_is_described_without_them() -> None:
    def bare() -> Answer:
        """Do nothing."""
        return Answer(summary="nothing")

    described = catalogues.describe_tool(Tool(function=bare, title="Bare", toolset="sizing", examples=()))
    assert "views" not in described


@pytest.mark.parametrize("name", ["height", "json", "count"])
def test_a_view_may_not_be_called_as_an_argument_is(name: str) -> None:
    def wave(height: int = 1, count: int = 1) -> Answer:
        """Make a wave."""
        return Answer(summary=f"{height * count}")

    views = {"live": View(function="a:b", description="Live", options={name: Option(metavar="N", description="x")})}
    with pytest.raises(ValueError, match=f"wave: {name} cannot be a view, it is an argument"):
        Tool(function=wave, title="Wave", toolset="sizing", examples=(), views=views)


def test_a_refusal_of_a_view_is_a_usage_error(entry: ToolEntry) -> None:
    with pytest.raises(UsageError):
        flags.parse(entry, ["--page", "x", "--plain"])
