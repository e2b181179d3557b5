"""Plain numbers and columns."""

from __future__ import annotations

import pytest

from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.measuring.logs import read_samples
from advisor_mcp.measuring.samples import Samples

TWENTY = tuple(float(value) for value in range(1, 21))


@pytest.mark.parametrize(
    "text", ["1.5 2 1.75", "1.5, 2, 1.75", "1.5\n2\n1.75\n", "[1.5, 2, 1.75]", "1.5;2;1.75", " 1.50,2e0,\n1.75,"]
)
def test_numbers_are_read_however_they_are_separated(text: str) -> None:
    assert read_samples(text) == Samples("numbers", "times", (1.5, 2, 1.75), repetitions=True)


def test_twenty_numbers_are_steps_and_fewer_are_repetitions() -> None:
    assert read_samples(" ".join(map(str, TWENTY))) == Samples("numbers", "times", TWENTY)


@pytest.mark.parametrize(("unit", "expected"), [
    ("s", ("ms", 2000.0)), ("us", ("ms", 0.002)), ("ns", ("ms", 2e-6)), ("tokens_per_s", ("tokens_per_s", 2.0)), (None, ("times", 2.0)),
])  # fmt: skip
def test_times_become_milliseconds_and_speeds_keep_their_unit(unit: str | None, expected: tuple[str, float]) -> None:
    found = read_samples("2", unit=unit)
    assert (found.unit, found.values[0]) == (expected[0], pytest.approx(expected[1]))


def test_numbers_of_which_higher_is_better_are_scores() -> None:
    found = read_samples("2 3", higher_is_better=True)
    assert (found.unit, found.higher_is_better) == ("scores", True)
    with pytest.raises(UsageError, match="unit ms and higher_is_better true contradict each other"):
        read_samples("2 3", unit="ms", higher_is_better=True)


@pytest.mark.parametrize(("text", "metric", "expected"), [
    ("step,step_time_ms\n1,20.5\n2,21\n", None, Samples("column step_time_ms", "ms", (20.5, 21), repetitions=True)),
    ("step,loss,tokens_per_second\n1,2.5,1000\n2,2.4,1100\n", "tokens_per_second", Samples("column tokens_per_second", "tokens_per_s", (1000, 1100), repetitions=True)),
    ("step,dt\n1,20.5\n2,21\n", None, Samples("column dt", "times", (20.5, 21), repetitions=True)),
])  # fmt: skip
def test_a_column_of_a_csv_file_has_the_unit_in_its_name(text: str, metric: str | None, expected: Samples) -> None:
    assert read_samples(text, metric) == expected


def test_a_csv_file_with_several_figures_asks_which() -> None:
    with pytest.raises(UsageError, match=r"^the file's columns are loss, dt; name one of them as metric$"):
        read_samples("step,loss,dt\n1,2.5,20\n2,2.4,21\n")


@pytest.mark.parametrize(("text", "shown"), [("1 0 2", "0.0"), ("1 -2", "-2.0"), ("[1, NaN]", "nan"), ("[1, 1e999]", "inf"), ("[1, " + "9" * 400 + "]", "inf")])  # fmt: skip
def test_what_no_measurement_can_be_is_refused(text: str, shown: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_samples(text)
    assert caught.value.message == f"every measurement must be a number above 0, not {shown}"


def test_a_figure_of_a_log_that_no_float_holds_is_refused() -> None:
    with pytest.raises(CannotAnswer, match="a measurement in the text is too large to be one"):
        read_samples("step: 1 tps: 1e999")
