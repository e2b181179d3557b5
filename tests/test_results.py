"""Answers as data and as text: the same content, within their budget."""

from __future__ import annotations

from pydantic import Field

from advisor_mcp.results import Answer, Interval, Row, gib, number, present


class Part(Row):
    name: str
    size_bytes: int


class Sized(Answer):
    weights_gib: float
    weights_gib_range: Interval | None = None
    fits: bool | None = None
    parts: list[Part] = Field(default_factory=list)
    note: str | None = None


def test_text_says_everything_the_data_say() -> None:
    answer = Sized(
        summary="It needs 1.5 GiB.", weights_gib=1.5, weights_gib_range=(1.4, 1.6), fits=True,
        parts=[Part(name="a|b", size_bytes=123456)], assumptions=["bf16", "one GPU"], sources=["arxiv:1"],
    )  # fmt: skip
    assert answer.text() == (
        "It needs 1.5 GiB.\n- **weights_gib**: 1.5\n- **weights_gib_range**: 1.4 to 1.6\n- **fits**: yes\n\n"
        "**parts**\n| name | size_bytes |\n|---|---|\n| a\\|b | 123,456 |\n"
        "- **assumptions**: bf16 | one GPU\n- **sources**: arxiv:1"
    )


def test_absent_values_are_left_out_and_empty_lists_are_not_printed() -> None:
    answer = Sized(summary="Short.", weights_gib=2)
    assert answer.data() == {
        "summary": "Short.",
        "assumptions": [],
        "warnings": [],
        "sources": [],
        "weights_gib": 2.0,
        "parts": [],
    }
    assert "assumptions" not in answer.text()


def test_an_answer_over_its_budget_loses_the_end_of_its_longest_list_and_says_so() -> None:
    answer = Sized(
        summary="Long.",
        weights_gib=1,
        parts=[Part(name=f"part {i}", size_bytes=i) for i in range(100)],
        assumptions=["kept", "too"],
    )
    data, text = present(answer, 900)
    assert len(text.encode()) <= 900
    assert data["parts"] == [{"name": f"part {i}", "size_bytes": i} for i in range(len(data["parts"]))]
    assert data["omitted"] == [f"parts: {100 - len(data['parts'])} more"]
    assert data["assumptions"] == ["kept", "too"]
    assert data["omitted"][0] in text


def test_an_answer_within_its_budget_is_left_alone() -> None:
    answer = Sized(summary="Short.", weights_gib=1)
    assert present(answer, 2400) == (answer.data(), answer.text())


def test_numbers_are_printed_as_people_read_them() -> None:
    assert [number(n) for n in (0, 9999, 10_000, 1.0, 0.25, 12345.678, 1e18, 0.00001, True)] == [
        "0", "9999", "10,000", "1", "0.25", "12,345.68", "1e+18", "1e-05", "yes",
    ]  # fmt: skip


def test_gib_is_two_to_the_thirty_rounded_to_hundredths() -> None:
    assert (gib(2**30), gib(10_737_418_240), gib(1)) == (1.0, 10.0, 0.0)
