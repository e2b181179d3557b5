"""PEFT: which layers LoRA adapts, and whether it is used at all."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used, used
from advisor_mcp.linting.rules._hf import adapter, fsdp_version, full, zero_stage
from advisor_mcp.linting.rules._pf import LINEAR, SHARED
from advisor_mcp.linting.unit import Setting, Unit, as_truth

TARGETS = ("lora_target_modules", "target_modules", "lora_target", "lora.target_modules", "peft_config.target_modules")
LORA = (
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "use_dora",
    "use_rslora",
)
PLAIN = ("hf_trainer", "trl")


def _targets(unit: Unit) -> tuple[Setting, list[str]] | None:
    """The setting that names the layers to adapt, and the last parts of the names; None for patterns and words for all."""
    setting = unit.setting(*TARGETS)
    items = unit.items(setting.name) if setting is not None else None
    if setting is None or not items:
        return None
    names = [str(item).strip("\"'[] ") for item in items]
    if any(not name.replace("_", "").replace(".", "").replace("-", "").isalnum() for name in names):
        return None
    return None if {"all-linear", "all"} & set(names) else (setting, [name.rsplit(".", 1)[-1] for name in names])


@rule("PF101", "targets-of-another-model", tools=HF_FAMILY, harm="crash", causes=("lora-targets",))
def targets_of_another_model(unit: Unit, job: Job) -> Found:
    """Allow targets-of-another-model.

    ## What it does
    Compares LoRA's target modules with the linear layers of the model's family.

    ## Why is this bad?
    Where none exists PEFT stops: "Target modules {'query_key_value'} not found in the base model." Where some exist the
    others are skipped without a word, and fewer layers learn than was meant.

    ## Example
    ```yaml train.yaml model={"model_type":"llama"}
    model_name_or_path: meta-llama/Llama-3.1-8B
    output_dir: out
    use_peft: true
    lora_target_modules: ["query_key_value", "dense"]
    ```

    ## Use instead
    ```yaml train.yaml model={"model_type":"llama"}
    model_name_or_path: meta-llama/Llama-3.1-8B
    output_dir: out
    use_peft: true
    lora_target_modules: ["q_proj", "k_proj", "v_proj", "o_proj"]
    ```

    ## Versions
    All. The names are those of transformers 4.57 and 5; models with code of their own are not checked.

    ## References
    - peft 0.21.2, tuners/tuners_utils.py, inject_adapter
    - tloen/alpaca-lora#373
    - Stability-AI/StableLM#98
    """
    found, model = _targets(unit), job.model(unit)
    if found is None or adapter(unit) is False:
        return
    if model is None or model.model_type is None:
        yield Skipped("the model")
        return
    known = LINEAR.get(model.model_type)
    if known is None:
        return
    setting, names = found
    missing = [name for name in names if name not in known and name not in SHARED]
    if not missing:
        return
    is_list = setting.syntax != "shell" and isinstance(setting.value, list)
    fix = set_value(setting, list(known)) if is_list else advise(f"use {', '.join(known)}, or all-linear")
    severity: Severity | None = None if len(missing) == len(names) else "warning"
    said = f"{', '.join(missing)}: no such layers in a {model.model_type} model, which has {', '.join(known)}"
    yield Problem(setting, said, fix, severity=severity)


@rule(
    "PF102",
    "adapter-on-the-output-layer",
    tools=PLAIN,
    harm="ignored",
    severity="warning",
    causes=("lora-embed-target",),
)
def adapter_on_the_output_layer(unit: Unit, job: Job) -> Found:
    """Allow adapter-on-the-output-layer.

    ## What it does
    Finds `lm_head` among LoRA's target modules.

    ## Why is this bad?
    Fused losses (TRL, Unsloth, Liger) multiply by `lm_head.weight` itself, so the adapter is never run and never trained.
    TRL refuses it: "Applying a PEFT adapter to `lm_head` is not supported".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    use_peft: true
    lora_target_modules: ["q_proj", "v_proj", "lm_head"]
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-0.5B
    output_dir: out
    use_peft: true
    lora_target_modules: ["q_proj", "v_proj"]
    ```

    ## Versions
    All; an error in TRL from 1.12 on. `modules_to_save: [lm_head]` trains the layer itself.

    ## References
    - trl 1.16.0, trainer/sft_trainer.py
    - unslothai/unsloth#9331
    - unslothai/unsloth#9326
    - huggingface/peft#1298
    """
    found = _targets(unit)
    if found is None or "lm_head" not in found[1] or adapter(unit) is False:
        return
    setting, names = found
    left = [name for name in names if name != "lm_head"]
    fix = (
        set_value(setting, left, why="and train the layer with modules_to_save")
        if isinstance(setting.value, list) and left
        else advise("move lm_head to modules_to_save")
    )
    severity: Severity | None = "error" if unit.tool == "trl" and unit.since("1.12") else None
    yield Problem(
        setting, "LoRA on lm_head has no effect where the loss reads lm_head.weight itself", fix, severity=severity
    )


@rule(
    "PF103",
    "lora-settings-without-lora",
    tools=("trl",),
    harm="ignored",
    severity="warning",
    causes=("lora-without-peft",),
)
def lora_settings_without_lora(unit: Unit, job: Job) -> Found:
    """Allow lora-settings-without-lora.

    ## What it does
    Finds TRL's LoRA options without `use_peft: true`.

    ## Why is this bad?
    Without it the options are ignored and all weights are trained, with several times the memory.

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    lora_r: 16
    lora_alpha: 32
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    lora_r: 16
    lora_alpha: 32
    ```

    ## Versions
    All.

    ## References
    - trl 1.16.0, trainer/utils.py, get_peft_config
    """
    found = all_used(unit, LORA)
    if not found or adapter(unit) is not False or unit.on("load_in_4bit", "load_in_8bit"):
        return
    peft, first = unit.setting("use_peft"), found[0]
    added = add_after(first, "--use_peft") if first.syntax == "shell" else add_after(first, "use_peft", True)
    fix = set_value(peft, True) if peft else added
    yield Problem(
        first, f"{first.shown} is ignored: use_peft is off, so all weights are trained", fix, tuple(found[1:])
    )


@rule("PF104", "dropout-on-adapted-parameters", tools=("trl",), harm="crash", causes=("lora-parameter-dropout",))
def dropout_on_adapted_parameters(unit: Unit, job: Job) -> Found:
    """Allow dropout-on-adapted-parameters.

    ## What it does
    Finds `lora_target_parameters` with a LoRA dropout, TRL's default of 0.05 included.

    ## Why is this bad?
    Adapters on single parameters, such as the fused experts of a layer, have no input to drop: "lora.ParamWrapper does
    not work with lora_dropout != 0."

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: openai/gpt-oss-20b
    output_dir: out
    use_peft: true
    lora_target_parameters: ["mlp.experts.gate_up_proj"]
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: openai/gpt-oss-20b
    output_dir: out
    use_peft: true
    lora_target_parameters: ["mlp.experts.gate_up_proj"]
    lora_dropout: 0.0
    ```

    ## Versions
    Since peft 0.17 and TRL 0.21.

    ## References
    - peft 0.21.2, tuners/lora/layer.py, ParamWrapper
    - trl 1.16.0, trainer/model_config.py
    """
    found, dropout = used(unit, "lora_target_parameters"), unit.number("lora_dropout", None if unit.open else 0.05)
    if found is not None and dropout and adapter(unit) is not False:
        setting = unit.setting("lora_dropout")
        name = "--lora_dropout" if found.syntax == "shell" else "lora_dropout"
        fix = set_value(setting, 0.0) if setting else add_after(found, name, 0.0)
        said = setting.shown if setting else "lora_dropout is 0.05 by default"
        yield Problem(
            setting or found, f"LoRA on parameters allows no dropout, and {said}", fix, (found,) if setting else ()
        )


@rule(
    "PF105",
    "frozen-and-trained-in-one-unit",
    tools=("accelerate",),
    harm="crash",
    severity="warning",
    causes=("fsdp-use-orig-params",),
)
def frozen_and_trained_in_one_unit(unit: Unit, job: Job) -> Found:
    """Allow frozen-and-trained-in-one-unit.

    ## What it does
    Finds `fsdp_use_orig_params: false` of FSDP1 in a job that trains LoRA.

    ## Why is this bad?
    A unit of FSDP then holds frozen and trained weights in one flat parameter: "Must flatten tensors with uniform
    `requires_grad` when `use_orig_params=False`". Only a wrapping policy that separates them (PEFT's
    `fsdp_auto_wrap_policy`, set in the code) avoids it.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_use_orig_params: false
    ```
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_use_orig_params: true
    ```
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    ```

    ## Versions
    FSDP1.

    ## References
    - huggingface/peft#1702
    - pytorch/pytorch#104690
    """
    setting = unit.setting("fsdp_config.fsdp_use_orig_params", "fsdp_config.use_orig_params")
    if setting is None or as_truth(setting.value) is not False or fsdp_version(unit, job) != 1:
        return
    if any(adapter(other) for other in job.others(*HF_FAMILY)):
        yield Problem(setting, f"{full(setting)} in a job that trains LoRA", set_value(setting, True))


@rule(
    "PF106",
    "plain-checkpointing-of-lora-under-stage-3",
    tools=PLAIN,
    harm="crash",
    severity="warning",
    causes=("zero3-lora-reentrant",),
)
def plain_checkpointing_of_lora_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow plain-checkpointing-of-lora-under-stage-3.

    ## What it does
    Finds LoRA under ZeRO stage 3 with gradient checkpointing that is not reentrant (`use_reentrant: false`).

    ## Why is this bad?
    The recomputed layers see partitioned weights of another shape: "Recomputed values for the following tensors have
    different metadata". TRL forces reentrant checkpointing here and says so.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {"use_reentrant": false}
    deepspeed: ds_z3.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {"use_reentrant": true}
    deepspeed: ds_z3.json
    ```

    ## Versions
    All; TRL overrides it since 0.27.

    ## References
    - huggingface/trl#2514
    - trl 1.16.0, trainer/sft_trainer.py
    - deepspeedai/DeepSpeed#8130
    """
    names = ("gradient_checkpointing_kwargs.use_reentrant", "activation_checkpointing_kwargs.use_reentrant")
    setting = unit.setting(*names)
    if setting is None or as_truth(setting.value) is not False or not adapter(unit) or zero_stage(unit, job) != 3:
        return
    if unit.on("gradient_checkpointing", "activation_checkpointing") or (unit.tool == "trl" and unit.since("0.24")):
        yield Problem(setting, f"{full(setting)} does not go with LoRA under ZeRO stage 3", set_value(setting, True))


@rule("PF107", "rank-below-one", tools=HF_FAMILY, harm="crash", causes=("lora-rank-range",))
def rank_below_one(unit: Unit, job: Job) -> Found:
    """Allow rank-below-one.

    ## What it does
    Finds a LoRA rank of 0 or less.

    ## Why is this bad?
    PEFT stops: "`r` should be a positive integer value but the value passed is 0".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    lora_r: 0
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    use_peft: true
    lora_r: 16
    ```

    ## Versions
    All.

    ## References
    - peft 0.21.2, tuners/lora/layer.py, update_layer
    """
    for name in ("lora_r", "lora_rank"):
        rank = unit.whole(name)
        if rank is not None and rank < 1 and adapter(unit) is not False:
            yield Problem(
                unit[name],
                f"{unit[name].shown} is no rank",
                set_value(unit[name], 16) if rank == 0 else remove(unit[name]),
            )
