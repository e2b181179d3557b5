"""torchtune: components that do not exist, do not take an option, or do not belong together."""

from __future__ import annotations

import difflib

from advisor_mcp.linting.edits import advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._tt import (
    ANY,
    TORCH_OPTIM,
    component,
    components,
    family,
    modules,
    named,
    packed,
    trains,
    versions_in_use,
)
from advisor_mcp.linting.unit import Setting, Unit

SECTIONS = ("model", "tokenizer", "dataset", "optimizer", "loss", "checkpointer", "lr_scheduler")
# checkpointer.model_type -> the families whose weights it converts; the first four convert alike
GENERIC = {"LLAMA2", "LLAMA3", "LLAMA3_2", "MISTRAL"}
GENERIC_FAMILIES = {"llama2", "code_llama2", "llama3", "llama3_1", "llama3_2", "llama3_3", "mistral"}
CONVERTS = {
    "GEMMA": {"gemma"},
    "GEMMA2": {"gemma2"},
    "LLAMA3_VISION": {"llama3_2_vision"},
    "LLAMA4": {"llama4"},
    "PHI3_MINI": {"phi3", "phi4"},
    "PHI4": {"phi3", "phi4"},
    "QWEN2": {"qwen2", "qwen2_5", "qwen3"},  # its mapping knows the norms of Qwen3 too
    "QWEN3": {"qwen3"},
}
TOKENIZERS = (
    {"llama3", "llama3_1", "llama3_2", "llama3_3", "llama3_2_vision"},
    {"llama2", "code_llama2"},
    {"mistral"},
    {"gemma", "gemma2"},
    {"phi3"},
    {"phi4"},
    {"qwen2", "qwen2_5", "qwen3"},
    {"llama4"},
)


@rule("TT001", "unknown-component", tools=("torchtune",), harm="crash", causes=("bad-component",))
def unknown_component(unit: Unit, job: Job) -> Found:
    """Allow unknown-component.

    ## What it does
    Checks every `_component_` that names a part of torchtune, or an optimizer of torch, against what there is.

    ## Why is this bad?
    The recipe stops when it gets there, the model possibly loaded: "InstantiationError: Error loading
    'torchtune.models.llama3_1.llama31_8b': Module has no attribute".

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama31_8b
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    ```

    ## Versions
    Held against torchtune 0.6.1 and the main branch of April 2026 (0.7); where no version is named, either will do.

    ## References
    - torchtune 0.6.1, config/_utils.py, _get_component_from_path
    - torchtune 0.6.1, _cli/validate.py
    """
    versions = versions_in_use(unit)
    for setting in named(unit):
        module, _, name = setting.value.rpartition(".")
        if module == "torch.optim" and name not in TORCH_OPTIM:
            yield _missing(setting, f"torch.optim has no {name}", module, name, TORCH_OPTIM)
        if not module.startswith("torchtune.") or not versions:
            continue
        held = components(module, versions[-1])
        if name in held:
            continue
        if held and (problem := _missing(setting, f"{module} has no {name}", module, name, frozenset(held))).fix:
            yield problem  # a name that resembles none may be a helper that the table does not list
        elif not held and (near := difflib.get_close_matches(module, sorted(modules()), 1, 0.9)):
            fix = set_value(setting, f"{near[0]}.{name}", why="the nearest module")
            yield Problem(setting, f"torchtune has no module {module}", fix)


def _missing(setting: Setting, message: str, module: str, name: str, known: frozenset[str]) -> Problem:
    longer = [other for other in sorted(known) if other.startswith(f"{name}_")]
    near = longer or difflib.get_close_matches(name, sorted(known), 1, 0.8)
    return Problem(
        setting, message, set_value(setting, f"{module}.{near[0]}", why="the nearest name") if near else None
    )


@rule("TT002", "unknown-component-option", tools=("torchtune",), harm="crash", causes=("bad-component-kwarg",))
def unknown_component_option(unit: Unit, job: Job) -> Found:
    """Allow unknown-component-option.

    ## What it does
    Checks the options beside a torchtune `_component_` against its parameters.

    ## Why is this bad?
    Every option is a keyword argument: "TypeError: llama3_tokenizer() got an unexpected keyword argument 'max_length'".

    ## Example
    ```yaml recipe.yaml
    tokenizer:
      _component_: torchtune.models.llama3.llama3_tokenizer
      path: /tmp/tokenizer.model
      max_length: 8192
    ```

    ## Use instead
    ```yaml recipe.yaml
    tokenizer:
      _component_: torchtune.models.llama3.llama3_tokenizer
      path: /tmp/tokenizer.model
      max_seq_len: 8192
    ```

    ## Versions
    Held against torchtune 0.6.1 and the main branch of April 2026 (0.7); where no version is named, either will do.

    ## References
    - torchtune 0.6.1, config/_validate.py
    """
    for setting in named(unit):
        section = setting.name.rsplit(".", 1)[0]
        accepted = _parameters(unit, setting)
        if accepted is None or section == "_component_":
            continue
        for name, option in unit.section(section).items():
            if name == "_component_" or name in accepted:
                continue
            near = difflib.get_close_matches(name, sorted(accepted), 1, 0.5)
            fix = rename(option, near[0], safe=False) if near and f"{section}.{near[0]}" not in unit else remove(option)
            yield Problem(option, f"{setting.value.rpartition('.')[2]} takes no {name}", fix, (setting,))


def _parameters(unit: Unit, setting: Setting) -> frozenset[str] | None:
    """The parameters of a component in the versions in use, None where they are not known or it takes anything."""
    module, _, name = setting.value.rpartition(".")
    taken = [held[name] for version in versions_in_use(unit) if (held := components(module, version)) and name in held]
    if not taken or any(ANY in parameters for parameters in taken):
        return None
    return frozenset().union(*taken)


@rule("TT003", "section-without-component", tools=("torchtune",), harm="crash", causes=("component-missing",))
def section_without_component(unit: Unit, job: Job) -> Found:
    """Allow section-without-component.

    ## What it does
    Finds a model, tokenizer, optimizer, loss, checkpointer or data set without `_component_`.

    ## Why is this bad?
    Nothing says what to make of the options: "Cannot instantiate specified object. Make sure you've specified a _component_
    field with a valid dotpath."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      lr: 2e-5
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, config/_instantiate.py
    """
    for name in SECTIONS:
        section = used(unit, name)
        if section and isinstance(section.value, dict) and f"{name}._component_" not in unit:
            misspelled = unit.setting(f"{name}.component", f"{name}.__component__", f"{name}._component")
            fix = rename(misspelled, "_component_") if misspelled else advise(f"name what to use in {name}._component_")
            yield Problem(misspelled or section, f"{name} has no _component_", fix)


@rule("TT004", "checkpoint-of-another-family", tools=("torchtune",), harm="crash", causes=("model-type-mismatch",))
def checkpoint_of_another_family(unit: Unit, job: Job) -> Found:
    """Allow checkpoint-of-another-family.

    ## What it does
    Checks that `checkpointer.model_type` of a Hugging Face checkpoint fits the family of the model.

    ## Why is this bad?
    The type chooses how the names and shapes of weights are converted: with the wrong one keys are missing, or biases and
    fused matrices are taken apart in the wrong way.

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.qwen2_5.qwen2_5_7b_instruct
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      model_type: LLAMA3
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.qwen2_5.qwen2_5_7b_instruct
    checkpointer:
      _component_: torchtune.training.FullModelHFCheckpointer
      model_type: QWEN2
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, training/checkpointing/_checkpointer.py, FullModelHFCheckpointer
    """
    kind, model = used(unit, "checkpointer.model_type"), family(component(unit, "model"))
    if kind is None or not model or "HFCheckpointer" not in component(unit, "checkpointer"):
        return
    name = str(kind.value).upper()
    fits = GENERIC_FAMILIES if name in GENERIC else CONVERTS.get(name)
    known = GENERIC_FAMILIES | {one for held in CONVERTS.values() for one in held}
    if fits is not None and model in known and model not in fits:
        right = next((t for t, held in CONVERTS.items() if model in held), "LLAMA2" if "llama2" in model else "LLAMA3")
        message = f"model_type {name} does not convert a {model} checkpoint"
        yield Problem(kind, message, set_value(kind, right), (unit["model._component_"],))


@rule(
    "TT005",
    "tokenizer-of-another-family",
    tools=("torchtune",),
    harm="wrong_result",
    severity="warning",
    causes=("tokenizer-mismatch",),
)
def tokenizer_of_another_family(unit: Unit, job: Job) -> Found:
    """Allow tokenizer-of-another-family.

    ## What it does
    Checks that tokenizer and model are of one family.

    ## Why is this bad?
    Token numbers mean something else in every family. If they are in range nothing fails, and the model learns noise.

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tokenizer:
      _component_: torchtune.models.llama2.llama2_tokenizer
      path: /tmp/tokenizer.model
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    tokenizer:
      _component_: torchtune.models.llama3.llama3_tokenizer
      path: /tmp/tokenizer.model
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, models
    """
    model, words = family(component(unit, "model")), family(component(unit, "tokenizer"))
    if not model or not words:
        return
    groups = [group for group in TOKENIZERS if model in group]
    if groups and words not in groups[0] and any(words in group for group in TOKENIZERS):
        also = (unit["model._component_"],)
        yield Problem(unit["tokenizer._component_"], f"a {words} tokenizer with a {model} model", None, also)


@rule("TT006", "packing-without-length", tools=("torchtune",), harm="crash", causes=("packed-max-seq-len",))
def packing_without_length(unit: Unit, job: Job) -> Found:
    """Allow packing-without-length.

    ## What it does
    Finds a packed data set with a tokenizer that has no `max_seq_len`, and packed data sets that cannot be packed
    (preferences, images).

    ## Why is this bad?
    The length of a row is not known, which shows only after the model was loaded: "ValueError: PackedDataset requires a
    max_seq_len to be set on the tokenizer."

    ## Example
    ```yaml recipe.yaml
    tokenizer:
      _component_: torchtune.models.llama3.llama3_tokenizer
      path: /tmp/tokenizer.model
      max_seq_len: null
    dataset:
      _component_: torchtune.datasets.alpaca_dataset
      packed: true
    ```

    ## Use instead
    ```yaml recipe.yaml
    tokenizer:
      _component_: torchtune.models.llama3.llama3_tokenizer
      path: /tmp/tokenizer.model
      max_seq_len: 8192
    dataset:
      _component_: torchtune.datasets.alpaca_dataset
      packed: true
    ```

    ## Versions
    All.

    ## References
    - meta-pytorch/torchtune#2055
    - torchtune 0.6.1, datasets/_alpaca.py and datasets/_preference.py
    """
    length = unit.settings.get("tokenizer.max_seq_len")
    for found in packed(unit):
        kind = component(unit, found.name.rsplit(".", 1)[0])
        if (
            ".multimodal." in kind
            or "preference" in kind
            or kind.endswith(("hh_rlhf_helpful_dataset", "stack_exchange_paired_dataset"))
        ):
            yield Problem(found, f"{kind.rsplit('.', 1)[-1]} cannot be packed", set_value(found, False))
        elif "tokenizer" in unit and (length is None or (length.known and length.value is None)):
            fix = set_value(length, 8192) if length else advise("set tokenizer.max_seq_len")
            yield Problem(found, "a packed data set needs tokenizer.max_seq_len", fix, (length,) if length else ())


@rule("TT007", "collator-for-inference", tools=("torchtune",), harm="crash", causes=("collate-fn",))
def collator_for_inference(unit: Unit, job: Job) -> Found:
    """Allow collator-for-inference.

    ## What it does
    Finds `left_pad_sequence` as `collate_fn` of a training recipe.

    ## Why is this bad?
    Padding on the left is for generation: "RuntimeError: left_pad_sequence collator is only for inference."

    ## Example
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    collate_fn: torchtune.data.left_pad_sequence
    ```

    ## Use instead
    ```yaml recipe.yaml
    model:
      _component_: torchtune.models.llama3_1.llama3_1_8b
    optimizer:
      _component_: torch.optim.AdamW
      lr: 2e-5
    epochs: 1
    collate_fn: torchtune.data.padded_collate_sft
    ```

    ## Versions
    All.

    ## References
    - torchtune 0.6.1, recipes/full_finetune_distributed.py, _setup_data
    """
    collate = unit.text("collate_fn")
    if collate and "left_pad_sequence" in collate and trains(unit):
        yield Problem(
            unit["collate_fn"],
            "left_pad_sequence is for inference",
            set_value(unit["collate_fn"], "torchtune.data.padded_collate_sft"),
        )
