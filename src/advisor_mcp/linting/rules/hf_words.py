"""TrainingArguments: words that an option does not take, and attention kinds that a parallelism does not."""

from __future__ import annotations

import difflib

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._hf import accelerated, attention, full, lower, transformers_since
from advisor_mcp.linting.rules._options import Named, named
from advisor_mcp.linting.unit import Unit

WORDS = (
    "eval_strategy", "evaluation_strategy", "save_strategy", "logging_strategy", "hub_strategy", "lr_scheduler_type", "optim",
)  # fmt: skip
SUCCESSORS = {
    "adamw_hf": "adamw_torch",
    "adamw": "adamw_torch",
    "adam": "adamw_torch",
    "adamw_apex_fused": "adamw_torch_fused",
    "adamw_bnb": "adamw_bnb_8bit",
    "epochs": "epoch",
    "step": "steps",
    "none": "no",
    "never": "no",
    "wsd": "warmup_stable_decay",
}


@rule("HF217", "word-of-no-enumeration", tools=HF_FAMILY, harm="crash", causes=("unknown-choice", "removed-choice"))
def word_of_no_enumeration(unit: Unit, job: Job) -> Found:
    """Allow word-of-no-enumeration.

    ## What it does
    Compares the optimizer, the schedule and the saving, evaluation, logging and hub strategies with the words that
    transformers knows. They are compared exactly: `Cosine` is none of them.

    ## Why is this bad?
    transformers stops: "epochs is not a valid IntervalStrategy, please select one of ['no', 'steps', 'epoch']".
    `adamw_hf` and `adamw_apex_fused` were taken out of later versions.

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    save_strategy: epochs
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    save_strategy: epoch
    ```

    ## Versions
    The words of the version in use; `save_strategy: best` since transformers 4.47. A word of an older version is a
    warning where no version is named.

    ## References
    - transformers 5.23.0, training_args.py, OptimizerNames
    - transformers 5.23.0, trainer_utils.py, IntervalStrategy
    - zjukg/KoPA#63
    - huggingface/transformers#31651
    """
    for found in named(unit):
        setting, option = found.setting, found.option
        if setting.name not in WORDS or option is None or not option.choices or not isinstance(setting.value, str):
            continue
        choices, value = [str(choice) for choice in option.choices], setting.value
        if value in choices or not value or value.lower() == "auto":
            continue
        meant = _meant(value, choices)
        listed = ", ".join(choices[:4]) + (", ..." if len(choices) > 4 else "")
        said = f"{setting.shown} is none of {listed}" + (f"; did you mean {meant}?" if meant else "")
        fix = set_value(setting, meant) if meant else advise(f"use one of {listed}")
        yield Problem(setting, said, fix, severity="warning" if found.assumed and _once(found, value) else None)


def _meant(value: str, choices: list[str]) -> str | None:
    known = SUCCESSORS.get(value.lower(), value.lower())
    if known in choices:
        return known
    return next(iter(difflib.get_close_matches(known, choices, 1, 0.7)), None)


def _once(found: Named, value: str) -> bool:
    """Whether an older version took the word."""
    table, scope, _ = found.tables[0]
    older = (table.option(scope, found.name, table.versions[len(table.versions) * i // 4]) for i in range(4))
    return any(option is not None and value in map(str, option.choices) for option in older)


@rule("HF218", "attention-of-context-parallelism", tools=HF_FAMILY, harm="crash", causes=("cp-needs-sdpa",))
def attention_of_context_parallelism(unit: Unit, job: Job) -> Found:
    """Allow attention-of-context-parallelism.

    ## What it does
    Finds an attention implementation other than `sdpa` where accelerate's context parallelism (`cp_size` above 1) is on.

    ## Why is this bad?
    transformers stops at the first step: "Context parallelism is supported only with SDPA attention, you are using
    flash_attention_2."

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_dp_shard_size: 2
      parallelism_config_cp_size: 4
    ```
    ```yaml sft.yaml
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    per_device_train_batch_size: 1
    attn_implementation: flash_attention_2
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_dp_shard_size: 2
      parallelism_config_cp_size: 4
    ```
    ```yaml sft.yaml
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    per_device_train_batch_size: 1
    attn_implementation: sdpa
    ```

    ## Versions
    Since transformers 4.57 with accelerate 1.10.

    ## References
    - transformers 5.23.0, trainer.py, _prepare_context_parallel_inputs
    """
    chosen = attention(unit)
    word = lower(unit, chosen.name) if chosen else None
    if chosen is None or word is None or "attn_implementation" not in chosen.name or word == "sdpa":
        return
    if not transformers_since(unit, "4.57"):
        return
    for other in accelerated(unit, job):
        size = other.setting("parallelism_config.parallelism_config_cp_size", "parallelism_config_cp_size")
        if size is not None and (other.number(size.name) or 1) > 1:
            yield Problem(
                chosen,
                f"{full(chosen)}, and context parallelism ({size.shown}) runs with sdpa only",
                set_value(chosen, "sdpa"),
                (size,),
            )
            return
