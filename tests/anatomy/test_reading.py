"""What a caller may name as a model, and what is said about what cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advisor_mcp import access
from advisor_mcp.anatomy.reading import read_model
from advisor_mcp.errors import AdvisorError, UsageError
from advisor_mcp.formulas.parameters import parameters

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip
TOTAL = 2 * (192 + 384 + 16) + 2 * 256 + 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return tmp_path


def total(model: str | dict[str, Any]) -> int:
    return parameters(read_model(model).architecture).total


def test_an_object_a_text_a_file_and_a_folder_are_the_same_model(folder: Path) -> None:
    forms: list[str | dict[str, Any]] = [
        CONFIG,
        json.dumps(CONFIG),
        str(folder / "tiny" / "config.json"),
        str(folder / "tiny"),
    ]
    assert {total(form) for form in forms} == {TOTAL}
    assert read_model(str(folder / "tiny")).name == "tiny"


def test_infinity_in_a_configuration_is_read(folder: Path) -> None:
    (folder / "tiny" / "config.json").write_text(
        json.dumps(CONFIG | {"time_step_limit": [0.0, float("inf")]}), encoding="utf-8"
    )
    assert total(str(folder / "tiny")) == TOTAL


def test_a_name_is_read_whatever_its_spelling_and_an_alias_is_told() -> None:
    model = read_model("Meta-Llama/llama-3.1-70B")
    assert model.name == read_model("llama-3.1-70b").name
    assert model.assumptions == ("'Meta-Llama/llama-3.1-70B' is read as llama-3.1-70b",)


def message(model: Any) -> str:
    with pytest.raises(AdvisorError) as caught:
        read_model(model)
    return caught.value.message


def test_an_unknown_name_gets_the_nearest_one() -> None:
    said = message("llama-3.1-70c")
    assert said.startswith("unknown model 'llama-3.1-70c'; did you mean 'llama-3.1-70b'?")


def test_what_cannot_be_read_is_told_in_one_sentence(folder: Path) -> None:
    broken = folder / "broken.json"
    broken.write_text('{"model_type": "llama",', encoding="utf-8")
    listed = folder / "list.json"
    listed.write_text("[1]", encoding="utf-8")
    binary = folder / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    empty = folder / "empty"
    empty.mkdir()
    assert message(str(broken)) == f"'{broken}' is not JSON (line 1, column 24); give a model's config.json"
    assert "holds a JSON list, not an object" in message(str(listed))
    assert "is not UTF-8 text" in message(str(binary))
    assert message(str(empty)).startswith("there is no config.json in ")
    assert message(str(folder / "none.json")).startswith("there is no file or folder ")
    assert message("{not json") == "the given text is not JSON (line 1, column 2); give a model's config.json"
    assert message({"hidden_size": 8}) == "the configuration has no model_type, so its family is not known"
    assert message("x" * 5000) == "model is too long to be a name or a path; pass the configuration as an object"
    assert message("a\0b").startswith(("unknown model", "'a\\x00b' is not a usable path"))


def test_deep_nesting_is_refused_and_not_recursed_into() -> None:
    assert "nested too deeply" in message('{"a":' * 100_000)


def test_a_config_of_many_megabytes_is_refused(folder: Path) -> None:
    big = folder / "big.json"
    big.write_text(json.dumps(CONFIG | {"padding": "x" * 5_000_000}), encoding="utf-8")
    assert "a config.json has at most 4,000,000" in message(str(big))


def test_over_the_network_no_path_is_read_and_a_root_holds_what_may_be(folder: Path) -> None:
    with access.limited(None):
        assert (
            message(str(folder / "tiny"))
            == "this server reads no paths; pass the file's content, or ask its operator for --root DIR"
        )
        assert total(CONFIG) == TOTAL
        assert message("tiny").startswith("unknown model 'tiny'")
    with access.limited(folder):
        assert total("tiny") == TOTAL
        assert "lies outside the folder" in message("../../etc/config.json")
        with pytest.raises(UsageError, match="lies outside"):
            read_model("/etc/hostname.json")
