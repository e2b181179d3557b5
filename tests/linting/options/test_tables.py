"""The option tables as rules use them: what an option is in a release, what became of a name, what was meant."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from advisor_mcp.linting.options import NO_DEFAULT, History, Option, Table, table, tools

TYPES = {"any", "bool", "int", "float", "str", "list", "dict", "enum", "null"}


def small() -> Table:
    """A table of three releases: one option renamed, one that came and went, one whose choices changed."""
    rows: dict[str, Any] = {
        "learning_rate": {"t": "float", "d": 5e-5, "ge": 0},
        "evaluation": {"t": "str", "in": [0, 2], "dep": "deprecated", "to": "eval"},
        "eval": {"t": "str", "in": [1]},
        "fused": {"t": "bool", "n": 0, "in": [0, 1, 2], "a": ["--no-fused", "-f"]},
        "kind": {
            "t": "enum",
            "c": ["a", "b"],
            "d": "a",
            "x": {"1": {"d": "b"}, "2": {"c+": ["c"], "c-": ["a"], "-": ["d"]}},
        },
        "eigenvalue": {"t": "dict", "in": [0, 2], "gone": "removed: stops with an error"},
    }
    return Table(
        "small", ("1.0", "1.1", "2.0"), ("2024-01-01", "2024-06-01", "2025-01-01"), "us", ("",), {}, {}, {"": rows}
    )


def option(name: str, **given: Any) -> Option:
    plain: dict[str, Any] = {
        "spellings": (),
        "type": "any",
        "default": NO_DEFAULT,
        "choices": (),
        "minimum": None,
        "maximum": None,
        "minimum_exclusive": False,
        "maximum_exclusive": False,
        "nargs": None,
        "required": False,
        "deprecated": None,
        "renamed_to": None,
    }
    return Option(name=name, **{**plain, **given})


def test_an_option_is_as_its_release_has_it() -> None:
    t = small()
    assert t.option("", "learning_rate", "1.0") == option("learning_rate", type="float", default=5e-5, minimum=0)
    assert t.option("", "kind", "1.0") == option("kind", type="enum", default="a", choices=("a", "b"))
    assert t.option("", "kind", "1.1") == option("kind", type="enum", default="b", choices=("a", "b"))
    assert t.option("", "kind") == option("kind", type="enum", choices=("b", "c"))


def test_an_option_that_its_release_lacks_is_none() -> None:
    t = small()
    assert [t.option("", "fused", v) is not None for v in ("1.0", "1.1", "2.0")] == [True, False, True]
    assert t.option("", "evaluation", "2.0") is None
    assert set(t.options("", "1.1")) == {"learning_rate", "evaluation", "eval", "kind", "eigenvalue"}


def test_spellings_find_the_option_with_or_without_dashes() -> None:
    t = small()
    for spelling in ("fused", "--fused", "--no-fused", "no_fused", "-f"):
        found = t.option("", spelling, "1.0")
        assert found is not None
        assert found.name == "fused"


def test_the_history_says_since_until_and_what_a_name_became() -> None:
    t = small()
    assert t.history("", "evaluation") == History("evaluation", None, "2.0", "eval", "deprecated")
    assert t.history("", "eval") == History("eval", "1.1", None, None, None)
    assert t.history("", "eigenvalue") == History("eigenvalue", None, "2.0", None, "removed: stops with an error")
    assert t.history("", "nothing") is None


def test_a_misspelt_name_leads_to_the_nearest_of_that_release() -> None:
    t = small()
    assert t.closest("", "learning_rat") == "learning_rate"
    assert t.closest("", "evaluatoin", "1.0") == "evaluation"
    assert t.closest("", "evaluatoin", "2.0") is None
    assert t.closest("", "bananas") is None


def test_a_version_stands_for_the_newest_release_not_above_it() -> None:
    t = small()
    given = ["0.1", "1.0", "1.0.7", "v1.1.post2", "1.1rc1", "2", "9", "main", "latest", None, ""]
    assert [t.versions[t.at(v)] for v in given] == [
        "1.0", "1.0", "1.0", "1.1", "1.0", "2.0", "2.0", "2.0", "2.0", "2.0", "2.0",
    ]  # fmt: skip


def test_a_plain_version_stands_for_its_post_releases_unless_it_is_listed_itself() -> None:
    assert table("vllm").versions[table("vllm").at("0.8.5")] == "0.8.5.post1"
    assert table("sglang").versions[table("sglang").at("0.4.6")] == "0.4.6"


def test_an_unknown_tool_or_scope_is_a_sentence() -> None:
    with pytest.raises(LookupError, match="There is no option table for 'kafka'; there are tables for accelerate,"):
        table("kafka")
    with pytest.raises(LookupError, match="deepspeed has no scope 'zero'"):
        table("deepspeed").option("zero", "stage")


def test_a_trainer_inherits_the_options_of_the_transformers_release_of_its_day() -> None:
    t = table("trl")
    assert t.inherits("grpo") == ("transformers", "TrainingArguments")
    assert t.option("sft", "overwrite_output_dir", "0.19.1") is not None
    assert t.option("sft", "overwrite_output_dir") is None
    assert t.option("sft", "overwrite_output_dir", beside={"transformers": "4.57.6"}) is not None
    assert t.history("sft", "overwrite_output_dir") == History("overwrite_output_dir", None, "5.0.0", None, None)


def test_a_flag_may_be_given_by_its_beginning() -> None:
    assert table("sglang").expands("serve", "--mem-fraction", "0.5.3") == ("mem_fraction_static",)
    assert len(table("sglang").expands("serve", "--cuda-graph-max-bs", "0.5.23")) > 1


@pytest.mark.parametrize(
    ("tool", "scope", "name", "history"),
    [
        ("transformers", "TrainingArguments", "evaluation_strategy", ("until", "4.51.0", "eval_strategy")),
        ("trl", "sft", "max_seq_length", ("until", "0.20.0", "max_length")),
        ("trl", "model", "torch_dtype", ("until", "0.27.0", "dtype")),
        ("deepspeed", "", "elasticity", ("until", "0.19.8", None)),
        ("vllm", "serve", "enable_reasoning", ("until", "0.10.0", None)),
        ("sglang", "serve", "enable_deepep_moe", ("until", "0.5.4.post3", None)),
        ("sglang", "serve", "cuda_graph_max_bs", ("until", "0.5.20", "cuda_graph_max_bs_decode")),
        ("axolotl", "", "dataset_processes", ("until", None, "dataset_num_proc")),
        ("pytorch", "env", "NCCL_BLOCKING_WAIT", ("since", "2.2.0", "TORCH_NCCL_BLOCKING_WAIT")),
        ("pytorch", "env", "PYTORCH_ALLOC_CONF", ("since", "2.9.0", None)),
        ("accelerate", "fsdp_config", "fsdp_reshard_after_forward", ("since", "1.6.0", None)),
    ],
)
def test_names_that_people_trip_over_have_the_history_of_their_tool(
    tool: str, scope: str, name: str, history: tuple[str, str | None, str | None]
) -> None:
    found = table(tool).history(scope, name)
    assert found is not None
    assert (history[0], getattr(found, history[0]), found.renamed_to) == history


@pytest.mark.parametrize(
    ("tool", "scope", "name", "expected"),
    [
        (
            "deepspeed",
            "zero_optimization",
            "stage3_param_persistence_threshold",
            option(
                "param_persistence_threshold",
                spellings=("stage3_param_persistence_threshold",),
                type="int",
                default=100000,
                minimum=0,
            ),
        ),
        ("vllm", "serve", "-tp", option("tensor_parallel_size", spellings=("-tp",), type="int", default=1, minimum=1)),
        (
            "megatron-lm",
            "",
            "--tensor-model-parallel-size",
            option("tensor_model_parallel_size", type="int", default=1),
        ),
        ("torchrun", "", "--nproc-per-node", option("nproc_per_node", spellings=(), type="str", default="1")),
        (
            "accelerate",
            "launch",
            "--num_machines",
            option("num_machines", type="int", default=None),
        ),
    ],
)
def test_shipped_options_are_those_of_the_newest_release(tool: str, scope: str, name: str, expected: Option) -> None:
    assert table(tool).option(scope, name) == expected


@pytest.mark.parametrize("tool", tools())
def test_a_shipped_table_is_whole(tool: str) -> None:
    t = table(tool)
    assert t.tool == tool
    assert t.source
    assert len(t.dates) == len(t.versions) == len(set(t.versions))
    assert [t.at(v) for v in t.versions] == list(range(len(t.versions)))
    for scope in t.scopes:
        for name, row in t._raw[scope].items():
            spans = row.get("in", [0])
            assert spans == sorted(set(spans)), (scope, name)
            assert all(0 <= edge < len(t.versions) for edge in spans), (scope, name)
            assert all(0 < int(at) < len(t.versions) for at in row.get("x", {})), (scope, name)
        for released in {t.versions[0], t.versions[len(t.versions) // 2], t.newest}:
            for found in t.options(scope, released).values():
                assert set(found.type.split("|")) <= TYPES, (scope, found)
                assert "enum" not in found.type or found.choices, (scope, found)
                assert found.renamed_to != found.name, (scope, found)


@pytest.mark.parametrize("tool", tools())
def test_a_name_leads_to_its_new_name_only_where_that_exists(tool: str) -> None:
    t = table(tool)
    for scope in t.scopes:
        for name in t._raw[scope]:
            found = t.history(scope, name)
            assert found is not None
            if found.renamed_to:
                assert t.history(scope, found.renamed_to), (scope, name, found.renamed_to)


def test_the_tables_are_small_and_one_option_is_one_line() -> None:
    folder = files("advisor_mcp.linting.options").joinpath("data")
    sizes = {p.name: len(p.read_bytes()) for p in folder.iterdir()}
    assert sum(sizes.values()) < 1_500_000
    assert max(sizes.values()) < 160_000
    text = folder.joinpath("deepspeed.json").read_text(encoding="utf-8")
    rows = sum(len(options) for options in json.loads(text)["scopes"].values())
    assert sum(line.startswith('"') and '": {' in line for line in text.splitlines()) >= rows
