"""An answer is held against the rules that carry a check; every check has a text that breaks it and one that keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from advisor_mcp.personas import SHARED_RULES, Check, Rule, Violation, check_rules, load_persona, parse_persona

Document = Callable[..., str]

TRAINING = """```python
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
model = torch.compile(fully_shard(model))
for step in range(max_steps):
    loss = model(batch)
    loss.backward()
    wandb.log({"loss": loss})
    if step % 500 == 0:
        dcp.save(model.state_dict(), checkpoint_id=step)
```
"""
NAIVE = """```python
model.to('cuda')
for batch in loader:
    loss = model(batch)
    loss.backward()
```
"""
TABLE = """### Options
| Approach | Quality Impact | Compute Cost | Implementation Complexity | Risk Level | Recommended When |
|---|---|---|---|---|---|
| **BF16** | none | 1x | low | low | always |
"""
MODULE = '''```python
class Block(nn.Module):
    """A block."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x unchanged."""
        assert x.ndim == 3
        return x  # (batch, sequence, hidden)


def test_shape() -> None:
    assert Block()(torch.zeros(1, 2, 3)).shape == (1, 2, 3)
```
'''
TWO_BLOCKS = "```bash\nls\n```\n\ntext\n\n```python\nprint()\n```\n"

# persona, rule, a text that breaks the rule, a text that keeps it
CASES = [
    (
        "aether",
        "unpublished-config",
        "The proprietary recipe of that lab uses a warmup.",
        "I do not have direct experience or published results for exactly this setup. It is an unpublished recipe.",
    ),
    ("aether", "modern-code", NAIVE, TRAINING),
    (
        "aether",
        "engine-over-generate",
        "Call `model.generate(**inputs)` in a loop.",
        "As a minimal example, `model.generate(**inputs)`; else `llm.generate(prompts)` of vLLM.",
    ),
    (
        "aether",
        "state-assumptions",
        "I recommend tensor parallelism.",
        "For an 8B model on 8xH100 at min latency, I recommend tensor parallelism.",
    ),
    ("aether", "reproducible-code", NAIVE, TRAINING),
    ("aether", "no-model-worship", "Qwen is the best model.", "Qwen2.5 is the best model for this leaderboard in May."),
    ("aether", "no-model-worship", "It is the best LLM in the world.", "It leads one leaderboard."),
    (
        "aether",
        "speculative-prefix",
        "Early results look good.",
        "This is an emerging technique with limited public validation at your target scale: unproven above 8B.",
    ),
    ("aether", "speculative-prefix", "The method is unproven.", "Use speculative decoding."),
    (
        "aether",
        "sparse-literature",
        "There is little published evidence, so try it.",
        "The literature is sparse here; the best evidence comes from one run, and there is little published evidence.",
    ),
    ("aether", "comparison-table", "### Options\n- BF16\n- FP8\n", TABLE),
    (
        "aether",
        "comparison-table",
        "| Option | Cost |\n|---|---|\n| BF16 | low |\n",
        "| GPU | GiB |\n|---|---|\n| A | 1 |\n",
    ),
    ("aether", "comparison-table", TABLE + "\n| Approach | Cost |\n|---|---|\n| BF16 | low |\n", TABLE),
    ("aether", "runnable-code", TWO_BLOCKS.replace("```python", "```"), TWO_BLOCKS),
    ("aether", "runnable-code", "```\nls\n```\n", "No code."),
    ("aether", "long-answers-structured", "word " * 400, "### Plan\n- one\n" + "word " * 400),
    (
        "optima",
        "correctness-over-speed",
        "Switch to INT4.",
        "Switch to INT4, compare perplexity, and roll back by dropping the flag.",
    ),
    (
        "optima",
        "no-env-var-magic",
        "export NCCL_ALGO=Ring",
        "export NCCL_ALGO=Ring\nbecause the ring is shorter; measure all-reduce bandwidth.",
    ),
    ("optima", "no-env-var-magic", "Set `NCCL_ALGO`.", "batch_size=32"),
    (
        "optima",
        "respect-hardware",
        "An RTX 4090 is on par with an H100.",
        "An RTX 4090 has less memory than an H100.",
    ),
    ("optima", "lead-with-answer", "Great question! It is memory.", "## Diagnosis\nIt is memory."),
    ("optima", "bold-metrics", "MFU is 18 %.", "**MFU** is 18 %."),
    ("optima", "structured-response", "It is memory.", "## Diagnosis\n- It is memory."),
    (
        "optima",
        "structured-response",
        "## Diagnosis\nIt is memory.",
        "My expertise is specialized in AI model performance. The principles of measurement-driven optimization apply, "
        "but the specific tools differ.",
    ),
    (
        "optima",
        "tables-for-comparison",
        "Before/after: 10 ms, 5 ms.",
        "Before/after:\n\n| | before | after |\n|---|---|---|\n| step | 10 ms | 5 ms |\n",
    ),
    (
        "optima",
        "copy-pasteable",
        "```bash\nvllm serve <your-model>\n```",
        "```bash\nvllm serve Qwen/Qwen3-8B\n```\nReplace the model <your-model> by name.",
    ),
    ("optima", "no-vague-gains", "It is much faster.", "It is 1.7-2.3x faster."),
    ("optima", "no-vague-gains", "A significant improvement.", "A statistically significant improvement of 3 ms."),
    (
        "optima",
        "code-with-gains",
        "```python\nmodel = torch.compile(model)\n```",
        "```python\nmodel = torch.compile(model)  # fewer kernel launches\n```\nExpected: 1.1-1.3x.",
    ),
    (
        "optima",
        "end-with-validation",
        "Enable CUDA Graphs; expected 1.1x.",
        "Enable CUDA Graphs; expected 1.1x.\n\n### Validation\nRun it five times.",
    ),
    ("chen-wei", "seed-everything", NAIVE, TRAINING),
    ("chen-wei", "log-hyperparameters", NAIVE, TRAINING),
    ("chen-wei", "profile-before-optimizing", "Optimize the kernel.", "Profile the step, then optimize the kernel."),
    ("chen-wei", "statistical-significance", "A outperforms B.", "A outperforms B by 1.2 ± 0.3 over five seeds."),
    ("llm-architect", "production-ready", "```python\ndef f(x):\n    return x\n```", MODULE),
    ("llm-architect", "tested", MODULE.replace("def test_shape", "def shape"), MODULE),
    (
        "llm-architect",
        "pytorch-first",
        "```python\nimport tensorflow as tf\n```",
        "TensorFlow, as you asked:\n```python\nimport tensorflow as tf\n```",
    ),
    ("llm-architect", "pep8", "```python\nfrom torch import *\n```", MODULE),
    (
        "llm-architect",
        "pep8",
        "```python\ndef makeBlock():\n    pass\n```",
        "```python\ndef setUp(self):\n    pass\n```",
    ),
    ("llm-architect", "pep8", "```python\ntry:\n    f()\nexcept:\n    pass\n```", "except ValueError:"),
    ("llm-architect", "device-agnostic", "`x.cuda()`", '`device = "cuda" if torch.cuda.is_available() else "cpu"`'),
    ("llm-architect", "device-agnostic", "`x.to('cuda:0')`", "`x.to(device)`"),
    ("llm-architect", "device-agnostic", '`device = "cuda"`', "`x.to(y.device)`"),
    ("llm-architect", "nn-module", MODULE.replace("(nn.Module)", ""), MODULE),
    ("llm-architect", "shape-annotations", MODULE.replace("# (batch, sequence, hidden)", "# the input"), MODULE),
    (
        "language-model-expert",
        "reference-papers",
        "Ainslie et al. group the heads.",
        "Ainslie et al. group the heads (arXiv:2305.13245).",
    ),
    (
        "language-model-expert",
        "acknowledge-uncertainty",
        "Emergence begins at some scale.",
        "Whether emergence is real is debated.",
    ),
    (
        "language-model-expert",
        "no-settled-claims",
        "Everyone agrees on this.",
        "Most published results agree on this.",
    ),
]

SHARED_CASES = [
    ("cite-source-ids", "The weights take 15.0 GiB.", "The weights take 15.0 GiB [datasheet:nvidia-h100]."),
    ("say-ai-advisor", "I am a human.", "I am an AI advisor."),
    ("no-invented-credentials", "In my experience, BF16 holds.", "Published runs at 70B+ show that BF16 holds."),
    ("no-invented-credentials", "My PhD was about this.", "The thesis is about this."),
    ("no-invented-credentials", "I have trained several models.", "The authors trained several models."),
]


def broken(name: str, text: str, folder: Path) -> set[str]:
    return {violation.rule for violation in check_rules(load_persona(folder / f"{name}.md"), text)}


@pytest.mark.parametrize(("name", "rule", "breaking", "keeping"), CASES)
def test_a_check_tells_a_text_that_breaks_its_rule_from_one_that_keeps_it(
    folder: Path, name: str, rule: str, breaking: str, keeping: str
) -> None:
    assert rule in broken(name, breaking, folder)
    assert rule not in broken(name, keeping, folder)


@pytest.mark.parametrize(("rule", "breaking", "keeping"), SHARED_CASES)
def test_a_shared_check_holds_for_every_persona(folder: Path, rule: str, breaking: str, keeping: str) -> None:
    for path in sorted(folder.glob("*.md")):
        assert rule in broken(path.stem, breaking, folder)
        assert rule not in broken(path.stem, keeping, folder)


def test_every_check_has_a_case(folder: Path) -> None:
    personas = [load_persona(path) for path in sorted(folder.glob("*.md"))]
    own = {(persona.name, rule.id) for persona in personas for rule in persona.rules if rule.check}
    assert {(name, rule) for name, rule, _, _ in CASES} == own
    assert {rule for rule, _, _ in SHARED_CASES} == {rule.id for rule in SHARED_RULES if rule.check}


def violations(document: Document, check: Check, text: str) -> list[Violation]:
    persona = parse_persona(document(), "small.md")
    return check_rules(replace(persona, rules=(Rule("held", "must", "Hold it.", check),)), text)


def test_a_forbidden_phrase_is_told_with_its_line(document: Document) -> None:
    found = violations(document, Check(forbid=("much faster",)), "one\r\ntwo\r\nit is Much Faster now")
    assert found == [Violation("held", "must", "line 3 has what the rule forbids: 'Much Faster'", 3)]


def test_a_long_forbidden_passage_is_cut(document: Document) -> None:
    found = violations(document, Check(forbid=("x+",)), "x" * 100)
    assert found == [Violation("held", "must", f"line 1 has what the rule forbids: '{'x' * 79}…'", 1)]


def test_a_demand_that_is_absent_is_told_once(document: Document) -> None:
    check = Check(require=("seed", "deterministic"))
    absent = Violation("held", "must", "what the rule demands is not there: Hold it.")
    assert violations(document, check, "nothing") == [absent]
    assert violations(document, check, "a seed, deterministic") == []


def test_a_check_does_not_apply_where_its_condition_is_not_met(document: Document) -> None:
    check = Check(require=("seed",), when="^train")
    assert violations(document, check, "how to train") == []
    assert len(violations(document, check, "how to\ntrain")) == 1


def test_a_table_with_other_columns_is_told_with_its_line(document: Document) -> None:
    text = "intro\n\n| A | B |\n|---|---|\n| 1 | 2 |\n\nA | C\n--- | ---\n1 | 2\n"
    assert violations(document, Check(table_columns=("A", "B")), text) == [
        Violation("held", "must", "the table at line 7 has other columns than A | B", 7)
    ]


def test_a_table_in_a_code_block_is_no_table(document: Document) -> None:
    text = "```\n| A | B |\n|---|---|\n```\n"
    assert violations(document, Check(table_columns=("A", "B")), text) == [
        Violation("held", "must", "there is no table with the columns A | B")
    ]


def test_a_text_that_breaks_nothing_has_no_violations(document: Document) -> None:
    assert check_rules(parse_persona(document(), "small.md"), "All is well.") == []


def test_the_rules_of_the_file_come_before_the_shared_ones(document: Document) -> None:
    found = check_rules(parse_persona(document(), "small.md"), "I am a human, never 5 GiB.")
    assert [violation.rule for violation in found] == ["keep", "cite-source-ids", "say-ai-advisor"]
