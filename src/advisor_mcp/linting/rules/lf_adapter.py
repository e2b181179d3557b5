"""LLaMA-Factory: what is trained and how, and what does not go together there."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, learning_rate, used, zero_stage
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
        yield Problem(
            bits,
            f"{bits.shown} does not go with finetuning_type: {how}",
            set_value(unit["finetuning_type"], "lora"),
            (unit["finetuning_type"],),
        )


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
            yield Problem(
                found,
                f"{found.written} works with LoRA only, not with finetuning_type: {how}",
                remove(found),
                (unit["finetuning_type"],),
            )
    if how == "full" and (pro := used(unit, "use_llama_pro")):
        yield Problem(
            pro, "use_llama_pro does not go with finetuning_type: full", remove(pro), (unit["finetuning_type"],)
        )


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
        yield Problem(
            resize,
            f"resize_vocab does not work with {bits.shown}",
            remove(resize, why="or train without quantization_bit"),
            (bits,),
        )


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
        yield Problem(
            pissa,
            f"pissa_init does not work with {bits.shown}",
            remove(pissa, why="use scripts/pissa_init.py"),
            (bits,),
        )
    elif zero_stage(unit, job) == 3:
        yield Problem(pissa, "pissa_init does not work under ZeRO-3", advice, (unit["deepspeed"],))
    elif stage(unit) in ("ppo", "kto") or (
        stage(unit) == "dpo" and unit.text("pref_loss", "sigmoid") not in ("orpo", "simpo", None)
    ):
        yield Problem(pissa, f"pissa_init does not work in stage {stage(unit)}", remove(pissa), beside(unit, "stage"))


@rule(
    "LF210",
    "lora-rate-in-full-training",
    tools=("llamafactory",),
    harm="nan",
    severity="warning",
    causes=("lr-full-ft",),
)
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
    if (
        rate is None
        or not 1e-4 <= rate < 1
        or method(unit) != "full"
        or stage(unit) in ("pt", None)
        or all_used(unit, other)
    ):
        return
    if "adam" in (unit.text("optim", "adamw_torch") or ""):
        written = unit["learning_rate"]
        fix = advise(f"use about a tenth, such as {rate / 10:.0e}")
        yield Problem(
            written, f"{written.shown} is a rate for LoRA, but finetuning_type is full", fix, (unit["finetuning_type"],)
        )


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
        yield Problem(
            unsloth, "use_unsloth does not know finetuning_type: oft", remove(unsloth), (unit["finetuning_type"],)
        )
    if kt and how and how != "lora" and trains(unit):
        yield Problem(
            kt,
            f"use_kt does not go with finetuning_type: {how}",
            set_value(unit["finetuning_type"], "lora"),
            (unit["finetuning_type"],),
        )


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
