"""Markdown on a terminal."""

from __future__ import annotations

import io

import pytest

from advisor_mcp import terminal
from advisor_mcp.terminal import BOLD, DIM, RESET


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bullets_bold_and_headings_are_styled() -> None:
    shown = terminal.render("# Title\nplain\n- **name**: 4 x **2**\n  - inner - dash", 80)
    assert shown.split("\n") == [
        f"{BOLD}Title{RESET}",
        "plain",
        f"{DIM}-{RESET} {BOLD}name{RESET}: 4 x {BOLD}2{RESET}",
        f"  {DIM}-{RESET} inner - dash",
    ]


def test_tables_are_aligned_with_their_numbers_to_the_right() -> None:
    shown = terminal.render("| name | bytes |\n|---|---|\n| a\\|b | 1,024 |\n| 大 | 2 |\nafter", 80)
    assert shown.split("\n") == [
        f"{BOLD}name  bytes{RESET}",
        f"{DIM}────  ─────{RESET}",
        "a|b   1,024",
        "大        2",
        "after",
    ]


def test_bold_marks_take_no_room_in_a_table() -> None:
    shown = terminal.render("| a | b |\n|---|---|\n| **xy** | z |\n| xyz | z |", 80)
    assert shown.split("\n")[2:] == [f"{BOLD}xy{RESET}   z", "xyz  z"]


def test_a_table_wider_than_the_terminal_becomes_records() -> None:
    shown = terminal.render("| name | note |\n|---|---|\n| a | wide wide |\n| b |  |", 10)
    assert shown.split("\n") == [
        f"  {DIM}name{RESET}  a",
        f"  {DIM}note{RESET}  wide wide",
        "",
        f"  {DIM}name{RESET}  b",
        "",
    ]


def test_lines_that_only_look_like_a_table_stay_as_they_are() -> None:
    assert terminal.render("| a | b |\n| c | d |", 80) == "| a | b |\n| c | d |"


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert terminal.render("a\x1b[31mb\x07\r\x9bc\td", 80) == "a[31mbc\td"


@pytest.mark.parametrize(
    ("stream", "environ", "styled"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (None, {}, False),
    ],
)
def test_only_a_terminal_that_wants_colour_is_styled(
    stream: io.StringIO | None, environ: dict[str, str], styled: bool
) -> None:
    assert terminal.is_styled(stream, environ) is styled
