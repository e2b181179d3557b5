"""Whatever stands in a file, the linter answers: no rule fails on a fault of its own, no fix breaks what it mends."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor_mcp.linting.engine import FAULT, Options, Report, fixed, lint_text
from advisor_mcp.linting.job import Given
from advisor_mcp.linting.pages import example
from advisor_mcp.linting.rule import rules

SEEDS = [
    shown
    for rule in rules().values()
    for section in ("Example", "Use instead")
    if (shown := example(rule, section)) is not None
]
VALUES = (
    "0", "-1", "1", "3", "1e309", "99999999999999999999", "auto", "true", "false", "null", "''", '""', "[]", "{}", "[1, 2]", "{a: 1}", "$X",
    "${Y:-2}", "no", "nan", "x", "0.5", "*a", "&a b", "{{ x }}", "\u00fc", "'",
)  # fmt: skip


def mutated(text: str, randomly: random.Random) -> str:
    """The text with a value changed, a line lost, doubled or moved, or a character gone."""
    lines = text.splitlines(True)
    for _ in range(randomly.randint(1, 4)):
        if not lines:
            break
        at = randomly.randrange(len(lines))
        what = randomly.randrange(6)
        if what == 0:
            lines.pop(at)
        elif what == 1:
            lines.insert(at, lines[randomly.randrange(len(lines))])
        elif what == 2 and lines[at]:
            cut = randomly.randrange(len(lines[at]))
            lines[at] = lines[at][:cut] + lines[at][cut + 1 :]
        else:
            values = list(re.finditer(r"(?<=[ :=,\[\"])[\w.${}-]+", lines[at]))
            if values:
                found = randomly.choice(values)
                lines[at] = lines[at][: found.start()] + randomly.choice(VALUES) + lines[at][found.end() :]
    return "".join(lines)


def without_fault(report: Report) -> None:
    assert [n for n in report.not_checked if n.needs.startswith(FAULT)] == []
    for finding in report.findings:
        assert finding.place.line >= 1
        assert finding.place.column >= 1
        assert finding.message


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_no_mutation_of_an_example_makes_a_rule_fail(seed: int) -> None:
    randomly = random.Random(seed)
    shown = randomly.choice(SEEDS)
    texts = {name: mutated(text, randomly) for name, text in shown.texts.items()}
    options = randomly.choice((shown.options, Options(), Options(Given(gpu="h100-sxm", world_size=8))))
    report = lint_text(texts, options)
    without_fault(report)
    for name, (_, after) in fixed(report, unsafe=True).items():
        without_fault(lint_text({**texts, name: after}, options))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["a.yaml", "a.json", "a.toml", "a.sh", "a.py", "a.env", "a"]), st.text(max_size=200))
def test_any_text_at_all_is_answered(name: str, text: str) -> None:
    without_fault(lint_text({name: text}, Options()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.sh", "A=x\n" + "A=$A$A\n" * 60 + "vllm serve $A\n"),
        ("a.sh", "A=(x y)\n" + 'A=("${A[@]}" "${A[@]}")\n' * 40 + 'vllm serve "${A[@]}"\n'),
        ("a.toml", "a." * 5_000 + "b = 1\n"),
        ("a.json", '{"train_batch_size": ' + "9" * 5_000 + "}"),
        ("a.sh", "vllm serve m --tensor-parallel-size 99999999999999999999 --max-model-len 1e308\n"),
        (
            "a.sh",
            "python -m sglang.launch_server --model-path m --tp 8 --dp 99999999999999999999 --enable-dp-attention\n",
        ),
        (
            "a.yaml",
            "# trl grpo\noutput_dir: o\nnum_generations: 99999999999999999998\nper_device_train_batch_size: 99999999999999999999\n",
        ),
    ],
)
def test_what_grows_without_end_is_cut(name: str, text: str) -> None:
    without_fault(lint_text({name: text}, Options(Given(model="llama-3.1-8b", gpu="h100-sxm"))))


@pytest.mark.parametrize("name", ["a.yaml", "a.json", "a.toml", "a.sh", "a.py"])
@pytest.mark.parametrize(
    "text",
    ["(" * 5_000, "[" * 5_000, "{" * 5_000, "$(" * 3_000, "a: " * 3_000, '"' * 5_001, "\\" * 5_000, "a=" * 3_000],
)
def test_deep_and_endless_syntax_is_answered(name: str, text: str) -> None:
    without_fault(lint_text({name: text}, Options()))
