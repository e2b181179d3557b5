"""A tool's schema as flags: parsing, help, and a call written back as a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp import flags
from advisor_mcp.catalogue import Catalogue
from advisor_mcp.errors import UsageError
from advisor_mcp.flags import Call


def parsed(catalogue: Catalogue, tool: str, *words: str, stdin: str = "") -> dict[str, Any]:
    return flags.parse(catalogue.tools[tool], words, lambda: stdin).arguments


def refusal(catalogue: Catalogue, tool: str, *words: str, stdin: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        parsed(catalogue, tool, *words, stdin=stdin)
    return caught.value.message


def test_positionals_and_flags_may_stand_in_any_order(catalogue: Catalogue) -> None:
    wanted = {"factor": 3, "values": [1.5, 2], "sign": "minus", "exact": False}
    assert parsed(catalogue, "scale", "3", "1.5", "2", "--sign", "minus", "--no-exact") == wanted
    assert parsed(catalogue, "scale", "--no-exact", "3", "--sign=minus", "1.5", "2") == wanted
    assert parsed(catalogue, "scale", "--values", "1.5", "3", "--values", "2", "--sign=minus", "--no-exact") == wanted


def test_an_argument_not_given_is_left_to_the_tool_default(catalogue: Catalogue) -> None:
    assert parsed(catalogue, "scale") == {}
    assert parsed(catalogue, "scale", "--exact") == {"exact": True}


@pytest.mark.parametrize(
    ("text", "number"),
    [("32768", 32768), ("32_768", 32768), ("32,768", 32768), ("-1,000", -1000), ("+7", 7), ("1_048_576", 1048576)],
)
def test_whole_numbers_may_be_grouped(catalogue: Catalogue, text: str, number: int) -> None:
    assert parsed(catalogue, "show", "m", f"--count={text}") == {"model": "m", "count": number}


@pytest.mark.parametrize("text", ["32k", "3,2768", "1e3", "1.5", "0x10", "1__0", "", "٣"])
def test_text_that_is_no_whole_number_is_left_for_the_declaration_to_refuse(catalogue: Catalogue, text: str) -> None:
    assert parsed(catalogue, "show", "m", f"--count={text}") == {"model": "m", "count": text}


def test_a_number_of_more_digits_than_python_reads_is_left_as_text(catalogue: Catalogue) -> None:
    assert parsed(catalogue, "show", "m", "--count", "9" * 5000)["count"] == "9" * 5000


@pytest.mark.parametrize(("text", "number"), [("0.25", 0.25), ("1e-3", 0.001), ("1,000.5", 1000.5), (".5", 0.5)])
def test_a_number_may_have_a_fraction(catalogue: Catalogue, text: str, number: float) -> None:
    assert parsed(catalogue, "show", "m", "--ratio", text)["ratio"] == number


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(catalogue: Catalogue, text: str) -> None:
    assert refusal(catalogue, "show", "m", f"--ratio={text}") == f"ratio must be a finite number, not {text!r}"


def test_a_union_takes_what_parses_to_another_of_its_types_and_else_the_text(catalogue: Catalogue) -> None:
    assert parsed(catalogue, "show", "m", "--recompute", "4")["recompute"] == 4
    assert parsed(catalogue, "show", "m", "--recompute", "full")["recompute"] == "full"
    assert parsed(catalogue, "show", "4") == {"model": "4"}
    assert parsed(catalogue, "show", '{"layers": 2}') == {"model": {"layers": 2}}
    assert parsed(catalogue, "show", "m", "--recompute", "null")["recompute"] == "null"


def test_objects_come_as_json_or_from_a_file(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text('\ufeff{"a": 1}', encoding="utf-8")
    rows = ("--rows", f"@{file}", "--rows", '{"b": 2}', "--rows", '[{"c": 3}, {"d": 4}]')
    assert parsed(catalogue, "show", "m", *rows)["rows"] == [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]


def test_an_object_that_does_not_parse_is_refused_with_its_place(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "row.json"
    file.write_text('{\n"a" 1}', encoding="utf-8")
    assert refusal(catalogue, "show", f"@{file}").endswith("is not JSON: expecting ':' delimiter at line 2, column 5")
    assert refusal(catalogue, "show", '{"a"}') == (
        "model: the value is not JSON: expecting ':' delimiter at line 1, column 5"
    )
    assert refusal(catalogue, "show", "[" * 100_000) == "model: the value is nested too deeply"


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(catalogue: Catalogue, tmp_path: Path) -> None:
    binary = tmp_path / "b"
    binary.write_bytes(b"\xff\xfe\x00")
    assert refusal(catalogue, "show", "@missing.json") == "cannot read 'missing.json': no such file or directory"
    assert refusal(catalogue, "show", "@a\0b") == "cannot read 'a\\x00b': the path is not valid"
    assert refusal(catalogue, "show", f"@{binary}").endswith("is not UTF-8 text; give a text file")


def test_a_dash_reads_standard_input(catalogue: Catalogue) -> None:
    assert parsed(catalogue, "show", "-", stdin='\ufeff {"layers": 2}\n') == {"model": {"layers": 2}}
    assert parsed(catalogue, "show", "m", "--log", "-", stdin="one\ntwo\n")["log"] == "one\ntwo\n"
    assert refusal(catalogue, "show", "-", stdin="{") == (
        "model: standard input is not JSON: expecting property name enclosed in double quotes at line 1, column 2"
    )


def test_an_argument_named_as_an_option_of_ours_gets_another_flag(catalogue: Catalogue) -> None:
    entry = catalogue.tools["show"]
    assert flags.parse(entry, ["m", "--help-argument", "x", "--json"]) == Call({"model": "m", "help": "x"}, True, False)


def test_help_wins_over_everything_that_follows_it(catalogue: Catalogue) -> None:
    assert flags.parse(catalogue.tools["show"], ["-h", "--count", "x"]) == Call({}, False, True)


def test_a_misspelled_option_names_the_nearest_one(catalogue: Catalogue) -> None:
    assert refusal(catalogue, "scale", "3", "--sing=plus") == "unknown option '--sing'; did you mean '--sign'?"
    assert refusal(catalogue, "scale", "--zzzzzz") == "unknown option '--zzzzzz'; see 'advisor-mcp scale --help'"
    assert refusal(catalogue, "scale", "--sig", "plus") == "unknown option '--sig'; did you mean '--sign'?"


def test_an_option_without_its_value_is_refused(catalogue: Catalogue) -> None:
    assert refusal(catalogue, "scale", "--sign") == (
        "argument --sign: expected one argument; see 'advisor-mcp scale --help'"
    )


def test_one_positional_too_many_is_refused(catalogue: Catalogue) -> None:
    assert refusal(catalogue, "show", "m", "n") == (
        "show: unexpected argument 'n'; it takes model; see 'advisor-mcp show-it --help'"
    )
    assert refusal(catalogue, "stepper", "4") == (
        "stepper: unexpected argument '4'; it takes options only; see 'advisor-mcp stepper --help'"
    )


def test_what_follows_two_dashes_is_positional(catalogue: Catalogue) -> None:
    assert parsed(catalogue, "show", "--count", "2", "--", "--model") == {"model": "--model", "count": 2}


def test_help_shows_description_flags_defaults_and_examples_as_commands(catalogue: Catalogue) -> None:
    assert (
        flags.help_text(catalogue.tools["scale"], 80)
        == """\
advisor-mcp scale FACTOR VALUES... [options]

Multiply some numbers by a factor. The product is exact.

Arguments:
  FACTOR  What to multiply by (required)
  VALUES  Numbers to scale (required; repeatable)

Options:
  --sign {plus,minus}  Sign of the product (default: plus)
  --exact, --no-exact  Round nothing (default: true)
  --json               Print the structured answer as JSON
  -h, --help           Show this text

Examples:
  # What is three times 1.5 and 2?
  advisor-mcp scale 3 --values 1.5 --values 2
"""
    )
    shown = flags.help_text(catalogue.tools["show"], 80)
    assert "  --recompute {none,full,N}  A word or a number (default: none)" in shown
    assert "  --rows JSON ..." in shown
    assert "  advisor-mcp show-it '{\"layers\":2}' --count 3\n" in shown


def test_an_argument_that_the_tool_does_not_take_cannot_be_written_as_a_command(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="show: unknown argument 'modle'"):
        flags.command_line(catalogue.tools["show"], {"modle": "m"})


def test_a_positional_after_one_not_given_is_written_as_a_flag(catalogue: Catalogue) -> None:
    words = flags.command_line(catalogue.tools["scale"], {"values": [1], "exact": False})
    assert words == ["advisor-mcp", "scale", "--values", "1", "--no-exact"]


# text that reads as another of the argument's types, as a file or as standard input is not the text any more
PLAIN = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: text[0] not in "@{[" and text != "-")
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.dictionaries(st.text(), st.none() | st.booleans() | NUMBERS | st.text() | st.lists(NUMBERS), max_size=3)
SHOWN = st.fixed_dictionaries(
    {"model": PLAIN | JSON},
    optional={
        "count": st.integers(),
        "ratio": NUMBERS,
        "recompute": st.sampled_from(["none", "full"]) | st.integers(),
        "rows": st.lists(JSON),
        "log": PLAIN,
        "help": PLAIN,
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=SHOWN)
def test_a_call_written_as_a_command_reads_back_as_the_same_call(
    catalogue: Catalogue, arguments: dict[str, Any]
) -> None:
    entry = catalogue.tools["show"]
    assert flags.parse(entry, flags.command_line(entry, arguments)[2:]) == Call(arguments, False, False)
