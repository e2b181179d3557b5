"""Arguments: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import Field

from advisor_mcp import arguments
from advisor_mcp.declaration import Progress, Silent, Tool
from advisor_mcp.errors import Cancelled, UsageError
from advisor_mcp.results import Answer, Row


class Sum(Answer):
    total: float


class Box(Row):
    width: int
    height: int = 1


def add(
    first: Annotated[float, Field(description="One")],
    count: Annotated[arguments.Count, Field(description="Two")] = 1,
    dtype: arguments.Dtype = "bf16",
    model: arguments.Model | None = None,
    words: Annotated[list[str] | None, Field(description="Words")] = None,
    box: Box | None = None,
    boxes: list[Box] | None = None,
    sizes: dict[str, int] | None = None,
    pair: Annotated[list[int] | None, Field(min_length=1, max_length=2)] = None,
    runs: list[str | list[float | str] | dict[str, float]] | None = None,
    progress: Progress | None = None,
) -> Sum:
    """Add two numbers. It is a toy."""
    if progress:
        progress.check()
    return Sum(summary="added", total=first + count)


TOOL = Tool(function=add, title="Add", toolset="sizing", examples=())


def refused(given: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        TOOL.call(given)
    return caught.value.message


def test_a_call_validates_and_answers() -> None:
    assert TOOL.call({"first": 1, "count": "2"}) == Sum(summary="added", total=3)


@pytest.mark.parametrize(("given", "sentence"), [
    ({}, "add: first is required"),
    ({"first": "x"}, "add: first must be a number, not 'x'"),
    ({"first": 1, "count": 1.5}, "add: count must be a whole number, not 1.5"),
    ({"first": 1, "count": 0}, "add: count must be at least 1, not 0"),
    ({"first": 1, "count": -3}, "add: count must be at least 1, not -3"),
    ({"first": 1, "count": True}, "add: count must be a whole number, not true"),
    ({"first": 1, "count": 2**41}, "add: count must be at most 1,099,511,627,776, not 2199023255552"),
    ({"first": 1, "count": None}, "add: count must be a whole number, not null"),
    ({"first": 1, "dtype": "bf17"}, "add: dtype must be one of 'fp32', 'bf16', 'fp16' or 'fp8', not 'bf17'"),
    ({"first": 1, "model": ""}, "add: model must not be empty; give a known name, a path to a config.json or a configuration object"),
    ({"first": 1, "model": 7}, "add: model must be a name, a path or a configuration object, not 7"),
    ({"first": 1, "words": "x"}, "add: words must be a list, not 'x'"),
    ({"first": 1, "words": [1]}, "add: words.0 must be text, not 1"),
    ({"first": 1, "cuont": 2}, "add: unknown argument 'cuont'; did you mean 'count'? (it takes first, count, dtype, model, words, box, boxes, sizes, pair, runs)"),
    ({"first": 1, "progress": 2}, "add: unknown argument 'progress' (it takes first, count, dtype, model, words, box, boxes, sizes, pair, runs)"),
    ({"first": 1, "box": {"width": 1, "heigth": 2}}, "add: unknown argument 'heigth' of box; did you mean 'height'? (it takes width, height)"),
    ({"first": 1, "boxes": [{"width": 1, "z": 2}]}, "add: unknown argument 'z' of boxes.0 (it takes width, height)"),
    ({"first": 1, "box": {}}, "add: box.width is required"),
    ({"first": 1, "box": 3}, "add: box must be an object, not 3"),
    ({"first": 1, "sizes": [1]}, "add: sizes must be an object, not [1]"),
    ({"first": 1, "sizes": {"str": "x"}}, "add: sizes.str must be a whole number, not 'x'"),
    ({"first": 1, "pair": []}, "add: pair must have at least 1 in it, not 0"),
    ({"first": 1, "pair": [1, 2, 3]}, "add: pair may have at most 2 in it, not 3"),
    ({"first": 1, "runs": ["x", 5]}, "add: runs.1 must be text, a list or an object, not 5"),
    ({"first": 1, "runs": [[1.0], ["a", None]]}, "add: runs.1.1 must be a number or text, not null"),
    ({"first": 1, "runs": [{"a": "x"}]}, "add: runs.0.a must be a number, not 'x'"),
    ({"first": 1, "model": "x" * 3_000_000}, "model has 3,000,000 characters; at most 2,000,000 are read, so pass a path instead"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    assert refused(given) == sentence


def test_no_message_names_a_library_or_its_pages() -> None:
    for given in (
        {},
        {"first": []},
        {"first": 1, "dtype": {}},
        {"first": 1, "model": []},
        {"first": float("nan"), "count": "x"},
    ):
        said = refused(given) if given else refused({})
        assert "pydantic" not in said
        assert "http" not in said


def test_an_argument_that_one_client_injects_is_ignored() -> None:
    assert TOOL.call({"first": 1, "wait_for_previous": True}).data()["total"] == 2


def test_the_schema_has_no_titles_no_nulls_and_refuses_unknown_names() -> None:
    schema = TOOL.input_schema
    assert "title" not in str(schema)
    assert "null" not in str(schema)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["first"]
    assert set(schema["properties"]) == {
        "first", "count", "dtype", "model", "words", "box", "boxes", "sizes", "pair", "runs",
    }  # fmt: skip


def test_the_description_is_the_first_paragraph_on_one_line() -> None:
    assert TOOL.description == "Add two numbers. It is a toy."


def test_a_cancelled_call_stops_at_its_next_check() -> None:
    progress = Silent()
    progress.cancel()
    with pytest.raises(Cancelled):
        TOOL.call({"first": 1}, progress)


def test_a_function_that_returns_no_answer_is_not_a_tool() -> None:
    def wrong() -> int:
        """Nothing."""
        return 1

    with pytest.raises(TypeError, match="wrong must return a subclass of"):
        _ = Tool(function=wrong, title="Wrong", toolset="sizing", examples=()).result  # type: ignore[arg-type]
