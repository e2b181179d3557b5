"""LLaMA-Factory: what is trained and how, and what does not go together there."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import all_used, learning_rate, used, whole, zero_stage
from advisor_mcp.linting.rules.lf_data import names
from advisor_mcp.linting.rules.lf_stage import beside, method, stage, trains
from advisor_mcp.linting.unit import Unit

SAVERS = ("use_galore", "use_apollo", "use_badam")


@rule("LF201", "quantised-full-training", tools=("llamafactory",), harm="crash", causes=("quant-needs-lora",))
def quantised_full_training(unit: Unit, job: Job) -> Found:
    """Allow quantised-full-training.

    ## What it does
    Finds `quantization_bit` with another `finetuning_type` than `lora` (or `oft`).

    ## Why is this bad?
    Quantised weights cannot be trained: "Quantization is only compatible with the LoRA or OFT method."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    quantization_bit: 4
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    All; `oft` since llamafactory 0.9.4.

    ## References
    - hiyouga/LlamaFactory#8623
    - llamafactory 0.9.5, hparams/parser.py, _verify_model_args
    """
    bits, how = used(unit, "quantization_bit"), method(unit)
    allowed = ("lora", "oft") if unit.since("0.9.4") else ("lora",)
    if bits and how and how not in allowed:
        yield Problem(bits, f"{bits.shown} does not go with finetuning_type: {how}", set_value(unit["finetuning_type"], "lora"), (unit["finetuning_type"],))


@rule("LF202", "adapter-of-no-lora", tools=("llamafactory",), harm="crash", causes=("adapter-needs-lora",))
def adapter_of_no_lora(unit: Unit, job: Job) -> Found:
    """Allow adapter-of-no-lora.

    ## What it does
    Finds `adapter_name_or_path` with another `finetuning_type` than `lora`.

    ## Why is this bad?
    "Adapter is only valid for the LoRA method."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/qwen/lora
    stage: sft
    finetuning_type: full
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    adapter_name_or_path: saves/qwen/lora
    stage: sft
    finetuning_type: lora
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, _verify_model_args
    """
    adapter, how = used(unit, "adapter_name_or_path"), method(unit)
    if adapter and how and how != "lora":
        fix = set_value(unit["finetuning_type"], "lora")
        yield Problem(adapter, f"an adapter does not go with finetuning_type: {how}", fix, (unit["finetuning_type"],))


@rule("LF203", "lora-option-without-lora", tools=("llamafactory",), harm="crash", causes=("lora-only-options",))
def lora_option_without_lora(unit: Unit, job: Job) -> Found:
    """Allow lora-option-without-lora.

    ## What it does
    Finds `loraplus_lr_ratio`, `use_rslora`, `use_dora` or `pissa_init` with another `finetuning_type` than `lora`, and
    `use_llama_pro` with `full`.

    ## Why is this bad?
    "`use_dora` is only valid for LoRA training.", "`use_llama_pro` is only valid for Freeze or LoRA training."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    use_dora: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    use_dora: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/finetuning_args.py
    """
    how = method(unit)
    if how and how != "lora":
        for found in all_used(unit, ("loraplus_lr_ratio", "use_rslora", "use_dora", "pissa_init")):
            yield Problem(found, f"{found.written} works with LoRA only, not with finetuning_type: {how}", remove(found), (unit["finetuning_type"],))
    if how == "full" and (pro := used(unit, "use_llama_pro")):
        yield Problem(pro, "use_llama_pro does not go with finetuning_type: full", remove(pro), (unit["finetuning_type"],))


@rule("LF204", "resized-quantised-embedding", tools=("llamafactory",), harm="crash", causes=("resize-vocab-quant",))
def resized_quantised_embedding(unit: Unit, job: Job) -> Found:
    """Allow resized-quantised-embedding.

    ## What it does
    Finds `resize_vocab: true`, or new tokens that make it so, with `quantization_bit`.

    ## Why is this bad?
    The new rows cannot be trained on a quantised model: "Cannot resize embedding layers of a quantized model."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    resize_vocab: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    resize_vocab: true
    additional_target: embed_tokens,lm_head
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, _verify_model_args
    """
    bits, resize = used(unit, "quantization_bit"), used(unit, "resize_vocab")
    if bits and resize:
        yield Problem(resize, f"resize_vocab does not work with {bits.shown}", remove(resize, why="or train without quantization_bit"), (bits,))


@rule("LF205", "pissa-on-quantised-weights", tools=("llamafactory",), harm="crash", causes=("pissa-quant",))
def pissa_on_quantised_weights(unit: Unit, job: Job) -> Found:
    """Allow pissa-on-quantised-weights.

    ## What it does
    Finds `pissa_init` with `quantization_bit`, under ZeRO-3, and in stages that need the model as it was (`ppo`, `kto`, and
    `dpo` with a reference model).

    ## Why is this bad?
    PiSSA takes the weights apart when it starts: "Please use scripts/pissa_init.py to initialize PiSSA for a quantized
    model.", "... in DeepSpeed ZeRO-3.", "Cannot use PiSSA for current training stage."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    pissa_init: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    pissa_init: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py and hparams/finetuning_args.py
    """
    pissa = used(unit, "pissa_init")
    if pissa is None:
        return
    advice = advise("make the adapter with scripts/pissa_init.py first")
    if bits := used(unit, "quantization_bit"):
        yield Problem(pissa, f"pissa_init does not work with {bits.shown}", remove(pissa, why="use scripts/pissa_init.py"), (bits,))
    elif zero_stage(unit, job) == 3:
        yield Problem(pissa, "pissa_init does not work under ZeRO-3", advice, (unit["deepspeed"],))
    elif stage(unit) in ("ppo", "kto") or (stage(unit) == "dpo" and unit.text("pref_loss", "sigmoid") not in ("orpo", "simpo", None)):
        yield Problem(pissa, f"pissa_init does not work in stage {stage(unit)}", remove(pissa), beside(unit, "stage"))


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
        yield Problem(new, f"create_new_adapter merges the old one, which {bits.shown} does not allow", remove(new), (bits, adapters))
    if adapters is None or len(paths) < 2:
        return
    why = bits or used(unit, "use_unsloth") or (unit["infer_backend"] if unit.text("infer_backend") == "vllm" else None)
    if why is None and zero_stage(unit, job) == 3:
        why = unit["deepspeed"]
    if why:
        yield Problem(adapters, f"{len(paths)} adapters do not work with {why.shown}", advise("merge them first"), (why,))


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
        yield Problem(savers[0], f"{savers[0].written} trains all weights, but finetuning_type is lora", fix, (written,) if written else ())
    if len(savers) > 1:
        yield Problem(savers[1], f"{savers[1].written} and {savers[0].written} do not go together", remove(*savers[1:]), (savers[0],))


@rule("LF208", "memory-saver-under-deepspeed", tools=("llamafactory",), harm="crash", causes=("galore-deepspeed", "untested-optimizer"))
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
        yield Problem(found, f"{found.written} does not work with DeepSpeed", remove(unit["deepspeed"]), (unit["deepspeed"],))
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
        yield Problem(unit["badam_mode"], "badam_mode: ratio does not work on several GPUs", set_value(unit["badam_mode"], "layer"), (badam,))
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
    known = {"galore": ("adamw_torch", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adafactor"), "apollo": ("adamw_torch",)}
    for name, optimizers in known.items():
        if not used(unit, f"use_{name}"):
            continue
        optim = unit.text("optim")
        if optim and optim not in optimizers:
            yield Problem(unit["optim"], f"optim: {optim} cannot be wrapped by {name}", set_value(unit["optim"], "adamw_torch"), (unit[f"use_{name}"],))
        layerwise = used(unit, f"{name}_layerwise")
        if layerwise is None:
            continue
        steps = whole(unit.number("gradient_accumulation_steps", 1))
        if steps and steps > 1:
            written = unit["gradient_accumulation_steps"]
            yield Problem(written, f"{layerwise.written} steps at every batch and cannot accumulate {steps}", set_value(written, 1), (layerwise,))
        world = job.world_size(unit)
        if world is None:
            yield Skipped("the world size")
        elif world > 1:
            yield Problem(layerwise, f"{layerwise.written} does not work on {world} GPUs", remove(layerwise))


@rule("LF210", "lora-rate-in-full-training", tools=("llamafactory",), harm="nan", severity="warning", causes=("lr-full-ft",))
def lora_rate_in_full_training(unit: Unit, job: Job) -> Found:
    """Allow lora-rate-in-full-training.

    ## What it does
    Finds `finetuning_type: full` with a learning rate of 1e-4 or more.

    ## Why is this bad?
    That is a rate for LoRA, about ten times what all weights bear: the loss rises instead of falling.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    learning_rate: 2.0e-4
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    learning_rate: 1.0e-5
    ```

    ## Versions
    All. Not in stage `pt`, not from scratch, not with GaLore, APOLLO, BAdam or Muon.

    ## References
    - hiyouga/LlamaFactory#5261
    - https://thinkingmachines.ai/blog/lora/
    """
    rate = learning_rate(unit)
    other = (*SAVERS, "use_muon", "train_from_scratch", "use_adam_mini")
    if rate is None or not 1e-4 <= rate < 1 or method(unit) != "full" or stage(unit) in ("pt", None) or all_used(unit, other):
        return
    if "adam" in (unit.text("optim", "adamw_torch") or ""):
        written = unit["learning_rate"]
        fix = advise(f"use about a tenth, such as {rate / 10:.0e}")
        yield Problem(written, f"{written.shown} is a rate for LoRA, but finetuning_type is full", fix, (unit["finetuning_type"],))


@rule("LF211", "unsloth-without-lora", tools=("llamafactory",), harm="crash", causes=("unsloth-method",))
def unsloth_without_lora(unit: Unit, job: Job) -> Found:
    """Allow unsloth-without-lora.

    ## What it does
    Finds `use_unsloth` with `finetuning_type: oft`, and `use_kt` with another type than `lora`.

    ## Why is this bad?
    "Unsloth is currently not supported for OFT.", "KTransformers only supports LoRA finetuning."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: oft
    use_unsloth: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: oft
    ```

    ## Versions
    llamafactory 0.9.4 and later.

    ## References
    - llamafactory 0.9.5, model/adapter.py
    """
    how, unsloth, kt = method(unit), used(unit, "use_unsloth"), used(unit, "use_kt")
    if unsloth and how == "oft":
        yield Problem(unsloth, "use_unsloth does not know finetuning_type: oft", remove(unsloth), (unit["finetuning_type"],))
    if kt and how and how != "lora" and trains(unit):
        yield Problem(kt, f"use_kt does not go with finetuning_type: {how}", set_value(unit["finetuning_type"], "lora"), (unit["finetuning_type"],))


@rule("LF212", "everything-frozen", tools=("llamafactory",), harm="crash", causes=("nothing-trainable",))
def everything_frozen(unit: Unit, job: Job) -> Found:
    """Allow everything-frozen.

    ## What it does
    Finds a full fine-tune with `freeze_language_model: true` where the vision tower and the projector stay frozen too,
    which they are unless told otherwise.

    ## Why is this bad?
    No weight is left to train: "element 0 of tensors does not require grad" or an empty list of parameters.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    template: qwen2_vl
    freeze_language_model: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2-VL-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    template: qwen2_vl
    freeze_language_model: true
    freeze_multi_modal_projector: false
    ```

    ## Versions
    llamafactory 0.9.2 and later.

    ## References
    - llamafactory 0.9.5, hparams/finetuning_args.py
    - llamafactory 0.9.5, model/model_utils/visual.py, get_forbidden_modules
    """
    frozen = used(unit, "freeze_language_model")
    if frozen is None or method(unit) != "full" or unit.open or not trains(unit):
        return
    if unit.truth("freeze_vision_tower", True) is True and unit.truth("freeze_multi_modal_projector", True) is True:
        fix = advise("set freeze_multi_modal_projector: false or freeze_vision_tower: false")
        yield Problem(frozen, "the vision tower and the projector are frozen too, so nothing is trained", fix)

