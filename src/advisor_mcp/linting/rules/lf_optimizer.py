"""LLaMA-Factory: GaLore, APOLLO, BAdam and other optimizers that save memory."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used, used, zero_stage
from advisor_mcp.linting.rules.lf_adapter import SAVERS
from advisor_mcp.linting.rules.lf_data import names
from advisor_mcp.linting.rules.lf_stage import method
from advisor_mcp.linting.unit import Unit


@rule("LF206", "several-adapters", tools=("llamafactory",), harm="crash", causes=("several-adapters",))
def several_adapters(unit: Unit, job: Job) -> Found:
    """Allow several-adapters.

    ## What it does
    Finds several paths in `adapter_name_or_path` where the model cannot take them in: quantised, under ZeRO-3, with Unsloth
    or on vLLM. Also `create_new_adapter` on a quantised model.

    ## Why is this bad?
    Adapters before the last are merged into the weights: "Quantized model only accepts a single adapter. Merge them
    first.", "Cannot use multiple adapters in DeepSpeed ZeRO-3."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/first,saves/second
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/merged
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, _verify_model_args
    - llamafactory 0.9.5, model/adapter.py
    """
    paths = names(unit, "adapter_name_or_path") or []
    bits, adapters = used(unit, "quantization_bit"), used(unit, "adapter_name_or_path")
    if adapters and bits and (new := used(unit, "create_new_adapter")):
        yield Problem(
            new,
            f"create_new_adapter merges the old one, which {bits.shown} does not allow",
            remove(new),
            (bits, adapters),
        )
    if adapters is None or len(paths) < 2:
        return
    why = bits or used(unit, "use_unsloth") or (unit["infer_backend"] if unit.text("infer_backend") == "vllm" else None)
    if why is None and zero_stage(unit, job) == 3:
        why = unit["deepspeed"]
    if why:
        yield Problem(
            adapters, f"{len(paths)} adapters do not work with {why.shown}", advise("merge them first"), (why,)
        )


@rule("LF207", "memory-saver-with-lora", tools=("llamafactory",), harm="crash", causes=("galore-lora",))
def memory_saver_with_lora(unit: Unit, job: Job) -> Found:
    """Allow memory-saver-with-lora.

    ## What it does
    Finds `use_galore`, `use_apollo` or `use_badam` with `finetuning_type: lora` (the default), and two of them together.

    ## Why is this bad?
    They are ways of training all weights in less memory: "Cannot use LoRA with GaLore, APOLLO or BAdam together."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    use_galore: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_galore: true
    ```

    ## Versions
    All; APOLLO since llamafactory 0.9.2.

    ## References
    - llamafactory 0.9.5, hparams/finetuning_args.py
    """
    savers = all_used(unit, SAVERS)
    if savers and method(unit) == "lora" and (not unit.open or "finetuning_type" in unit):
        written = unit.settings.get("finetuning_type")
        fix = set_value(written, "full") if written else remove(*savers)
        yield Problem(
            savers[0],
            f"{savers[0].written} trains all weights, but finetuning_type is lora",
            fix,
            (written,) if written else (),
        )
    if len(savers) > 1:
        yield Problem(
            savers[1],
            f"{savers[1].written} and {savers[0].written} do not go together",
            remove(*savers[1:]),
            (savers[0],),
        )


@rule(
    "LF208",
    "memory-saver-under-deepspeed",
    tools=("llamafactory",),
    harm="crash",
    causes=("galore-deepspeed", "untested-optimizer"),
)
def memory_saver_under_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow memory-saver-under-deepspeed.

    ## What it does
    Finds GaLore or APOLLO with DeepSpeed, and BAdam where it cannot run on several GPUs: by ratio, or by layer without
    ZeRO-3.

    ## Why is this bad?
    "GaLore and APOLLO are incompatible with DeepSpeed yet.", "Layer-wise BAdam only supports DeepSpeed ZeRO-3 training."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_galore: true
    deepspeed: examples/deepspeed/ds_z2_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_galore: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    deepspeed = used(unit, "deepspeed")
    for found in all_used(unit, ("use_galore", "use_apollo")) if deepspeed else ():
        yield Problem(
            found, f"{found.written} does not work with DeepSpeed", remove(unit["deepspeed"]), (unit["deepspeed"],)
        )
    badam = used(unit, "use_badam")
    if badam is None:
        return
    world = job.world_size(unit)
    several = bool(deepspeed) or bool(world and world > 1)
    if not several:
        if world is None:
            yield Skipped("the world size")
        return
    if unit.text("badam_mode", "layer") == "ratio":
        yield Problem(
            unit["badam_mode"],
            "badam_mode: ratio does not work on several GPUs",
            set_value(unit["badam_mode"], "layer"),
            (badam,),
        )
    elif zero_stage(unit, job) in (0, 1, 2):
        also = (deepspeed,) if deepspeed else ()
        yield Problem(badam, "BAdam on several GPUs needs ZeRO-3", advise("use a ZeRO-3 configuration"), also)


@rule("LF209", "layerwise-optimizer-limits", tools=("llamafactory",), harm="crash", causes=("galore-layerwise",))
def layerwise_optimizer_limits(unit: Unit, job: Job) -> Found:
    """Allow layerwise-optimizer-limits.

    ## What it does
    Finds layer-wise GaLore or APOLLO with gradient accumulation or on several GPUs, and an `optim` that they cannot wrap.

    ## Why is this bad?
    The optimizer steps during the backward pass, layer by layer: "Per-layer GaLore does not support gradient
    accumulation.", "Distributed training does not support layer-wise GaLore.", "NotImplementedError: Unknown optim".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_galore: true
    galore_layerwise: true
    gradient_accumulation_steps: 8
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_galore: true
    galore_layerwise: true
    gradient_accumulation_steps: 1
    ```

    ## Versions
    All; APOLLO since llamafactory 0.9.2.

    ## References
    - llamafactory 0.9.5, train/trainer_utils.py
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    known = {
        "galore": ("adamw_torch", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adafactor"),
        "apollo": ("adamw_torch",),
    }
    for name, optimizers in known.items():
        if not used(unit, f"use_{name}"):
            continue
        optim = unit.text("optim")
        if optim and optim not in optimizers:
            yield Problem(
                unit["optim"],
                f"optim: {optim} cannot be wrapped by {name}",
                set_value(unit["optim"], "adamw_torch"),
                (unit[f"use_{name}"],),
            )
        layerwise = used(unit, f"{name}_layerwise")
        if layerwise is None:
            continue
        steps = unit.whole("gradient_accumulation_steps", 1)
        if steps and steps > 1:
            written = unit["gradient_accumulation_steps"]
            yield Problem(
                written,
                f"{layerwise.written} steps at every batch and cannot accumulate {steps}",
                set_value(written, 1),
                (layerwise,),
            )
        world = job.world_size(unit)
        if world is None:
            yield Skipped("the world size")
        elif world > 1:
            yield Problem(layerwise, f"{layerwise.written} does not work on {world} GPUs", remove(layerwise))
