"""LLaMA-Factory: ZeRO-3, quantisation and number formats."""

from __future__ import annotations

import re

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, unset, used, zero_stage
from advisor_mcp.linting.rules.lf_stage import beside, method, trains
from advisor_mcp.linting.unit import Unit

_PACKED = re.compile(r"\b(awq|gptq|aqlm|gptq-int[48])\b", re.IGNORECASE)


def sharded(unit: Unit, job: Job) -> bool:
    """Whether the weights are sharded: ZeRO-3 or FSDP."""
    return zero_stage(unit, job) == 3 or used(unit, "fsdp") is not None


@rule("LF301", "unsloth-under-zero3", tools=("llamafactory",), harm="crash", causes=("zero3-unsloth",))
def unsloth_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow unsloth-under-zero3.

    ## What it does
    Finds `use_unsloth` (or `use_kt`) with a ZeRO-3 configuration.

    ## Why is this bad?
    Unsloth places the whole model on one GPU: "Unsloth is incompatible with DeepSpeed ZeRO-3.", once "DeepSpeed Zero-3 is
    not compatible with `low_cpu_mem_usage=True` or with passing a `device_map`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen1.5-72B-Chat
    stage: sft
    finetuning_type: lora
    use_unsloth: true
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen1.5-72B-Chat
    stage: sft
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#3949
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    for found in all_used(unit, ("use_unsloth", "use_kt")):
        if zero_stage(unit, job) == 3:
            yield Problem(
                found, f"{found.written} does not work under ZeRO-3", set_value(found, False), (unit["deepspeed"],)
            )


@rule("LF302", "pure-bf16-under-zero3", tools=("llamafactory",), harm="crash", causes=("zero3-pure-bf16",))
def pure_bf16_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow pure-bf16-under-zero3.

    ## What it does
    Finds `pure_bf16: true` with a ZeRO-3 configuration.

    ## Why is this bad?
    ZeRO keeps the master weights itself: "`pure_bf16` is incompatible with DeepSpeed ZeRO-3."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    pure_bf16: true
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: full
    bf16: true
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    pure = used(unit, "pure_bf16")
    if pure and zero_stage(unit, job) == 3:
        yield Problem(
            pure, "pure_bf16 does not work under ZeRO-3", remove(pure, why="set bf16: true"), (unit["deepspeed"],)
        )


@rule("LF303", "generation-under-zero3", tools=("llamafactory",), harm="crash", causes=("zero3-generate",))
def generation_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow generation-under-zero3.

    ## What it does
    Finds `predict_with_generate` with a ZeRO-3 configuration.

    ## Why is this bad?
    Every token would gather all weights: "`predict_with_generate` is incompatible with DeepSpeed ZeRO-3."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_predict: true
    predict_with_generate: true
    eval_dataset: identity
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_predict: true
    predict_with_generate: true
    eval_dataset: identity
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    generate = used(unit, "predict_with_generate")
    if generate and zero_stage(unit, job) == 3:
        fix = remove(unit["deepspeed"], why="or generate with scripts/vllm_infer.py")
        yield Problem(generate, "predict_with_generate does not work under ZeRO-3", fix, (unit["deepspeed"],))


@rule(
    "LF304",
    "quantised-weights-that-are-sharded",
    tools=("llamafactory",),
    harm="crash",
    causes=("zero3-quant", "fsdp-quant"),
)
def quantised_weights_that_are_sharded(unit: Unit, job: Job) -> Found:
    """Allow quantised-weights-that-are-sharded.

    ## What it does
    Finds on-the-fly quantisation that ZeRO-3 or FSDP cannot shard: 8 bits, HQQ and EETQ.

    ## Why is this bad?
    "Only 4-bit quantized model can use fsdp+qlora or auto device map.", "HQQ quantization is incompatible with DeepSpeed
    ZeRO-3 or FSDP."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 8
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 8
    deepspeed: examples/deepspeed/ds_z2_config.json
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#3543
    - hiyouga/LlamaFactory#5364
    - llamafactory 0.9.5, model/model_utils/quantization.py
    """
    bits, kind = used(unit, "quantization_bit"), (unit.text("quantization_method", "bnb") or "").lower()
    if bits is None or not kind or not sharded(unit, job):
        return
    where = (unit.setting("deepspeed", "fsdp") or bits,)
    if kind in ("hqq", "eetq"):
        fix = set_value(unit["quantization_method"], "bnb")
        yield Problem(
            unit["quantization_method"], f"{kind.upper()} weights cannot be sharded by ZeRO-3 or FSDP", fix, where
        )
    elif unit.whole("quantization_bit") == 8:
        yield Problem(
            bits, "8-bit weights cannot be sharded by ZeRO-3 or FSDP", set_value(bits, 4, why="or use ZeRO-2"), where
        )


@rule(
    "LF305",
    "four-bit-weights-under-zero3",
    tools=("llamafactory",),
    harm="crash",
    severity="warning",
    causes=("zero3-qlora",),
)
def four_bit_weights_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow four-bit-weights-under-zero3.

    ## What it does
    Finds `quantization_bit: 4` with a ZeRO-3 configuration.

    ## Why is this bad?
    bitsandbytes' packed weights and ZeRO-3's partitions often do not meet: users report crashes while loading and in the
    first step. The authors' answer is FSDP with QLoRA, or ZeRO-2.

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-72B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    deepspeed: examples/deepspeed/ds_z3_offload_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-72B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    All.

    ## References
    - hiyouga/LlamaFactory#5595
    - hiyouga/LlamaFactory#8482
    """
    bits = used(unit, "quantization_bit")
    if bits and unit.whole("quantization_bit") == 4 and zero_stage(unit, job) == 3:
        kind = (unit.text("quantization_method", "bnb") or "").lower()
        if kind in ("bnb", "bitsandbytes"):
            yield Problem(
                bits,
                "4-bit weights under ZeRO-3 often fail",
                advise("use FSDP with QLoRA, or ZeRO-2"),
                (unit["deepspeed"],),
            )


@rule(
    "LF306",
    "packed-checkpoint-that-is-sharded",
    tools=("llamafactory",),
    harm="crash",
    causes=("zero3-ptq", "zero3-quant"),
)
def packed_checkpoint_that_is_sharded(unit: Unit, job: Job) -> Found:
    """Allow packed-checkpoint-that-is-sharded.

    ## What it does
    Finds a checkpoint that is quantised already (GPTQ, AWQ, AQLM by its name, or by its configuration) under ZeRO-3 or FSDP.

    ## Why is this bad?
    "DeepSpeed ZeRO-3 or FSDP is incompatible with PTQ-quantized models."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-72B-Instruct-AWQ
    stage: sft
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-72B-Instruct-AWQ
    stage: sft
    finetuning_type: lora
    deepspeed: examples/deepspeed/ds_z2_config.json
    ```

    ## Versions
    All. MXFP4 checkpoints are unpacked when they are loaded, since llamafactory 0.9.4.

    ## References
    - hiyouga/LlamaFactory#6898
    - llamafactory 0.9.5, model/model_utils/quantization.py
    """
    model = unit.settings.get("model_name_or_path")
    if model is None or not isinstance(model.value, str) or not sharded(unit, job):
        return
    facts = job.model(unit)
    kind = str(facts.quantization.get("quant_method", "")) if facts else ""
    if kind == "mxfp4" and unit.since("0.9.4"):
        return
    by_name = _PACKED.search(model.value.replace("_", "-"))
    if kind or by_name:
        said = kind or (by_name[0] if by_name else "")
        where = (unit.setting("deepspeed", "fsdp") or model,)
        yield Problem(
            model,
            f"a checkpoint in {said.upper()} cannot be sharded by ZeRO-3 or FSDP",
            advise("use ZeRO-2, or the 16-bit checkpoint"),
            where,
        )


@rule("LF307", "bits-that-do-not-exist", tools=("llamafactory",), harm="crash", causes=("quant-bits",))
def bits_that_do_not_exist(unit: Unit, job: Job) -> Found:
    """Allow bits-that-do-not-exist.

    ## What it does
    Checks `quantization_bit` against its method (bitsandbytes 4 and 8, HQQ 1 to 6 and 8, EETQ 8), and the bits of a
    reference or reward model (4 and 8).

    ## Why is this bad?
    "Bitsandbytes only accepts 4-bit or 8-bit quantization."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 3
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, model/model_utils/quantization.py
    """
    allowed = {"bnb": (4, 8), "bitsandbytes": (4, 8), "hqq": (1, 2, 3, 4, 5, 6, 8), "eetq": (8,)}
    kind = (unit.text("quantization_method", "bnb") or "").lower()
    checks = [
        ("quantization_bit", allowed.get(kind)),
        ("ref_model_quantization_bit", (4, 8)),
        ("reward_model_quantization_bit", (4, 8)),
    ]
    for option, choices in checks:
        bits = unit.whole(option)
        if choices and bits is not None and bits not in choices:
            nearest = min(choices, key=lambda choice: abs(choice - bits))
            said = " and ".join(map(str, choices))
            yield Problem(
                unit[option],
                f"{option} is {bits}; {kind} has {said}",
                set_value(unit[option], nearest),
                beside(unit, "quantization_method"),
            )


@rule("LF309", "fp8-on-quantised-weights", tools=("llamafactory",), harm="crash", causes=("fp8-quant",))
def fp8_on_quantised_weights(unit: Unit, job: Job) -> Found:
    """Allow fp8-on-quantised-weights.

    ## What it does
    Finds `fp8: true` with `quantization_bit`.

    ## Why is this bad?
    "FP8 training is not compatible with quantization. Please disable one of them."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    fp8: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    finetuning_type: lora
    quantization_bit: 4
    ```

    ## Versions
    llamafactory 0.9.4 and later.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    eight, bits = used(unit, "fp8"), used(unit, "quantization_bit")
    if eight and bits and unit.since("0.9.4"):
        yield Problem(eight, f"fp8 does not go with {bits.shown}", remove(eight), (bits,))


@rule("LF312", "float32-flash-attention", tools=("llamafactory",), harm="crash", causes=("fa2-dtype",))
def float32_flash_attention(unit: Unit, job: Job) -> Found:
    """Allow float32-flash-attention.

    ## What it does
    Finds `flash_attn: fa2` in full or freeze training with none of `bf16`, `fp16` and `pure_bf16`, and without DeepSpeed
    or FSDP.

    ## Why is this bad?
    Trainable weights are then kept in float32, and the kernels take 16-bit numbers only: "FlashAttention only support fp16
    and bf16 data type".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    flash_attn: fa2
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: full
    flash_attn: fa2
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, model/adapter.py, init_adapter
    - unslothai/unsloth#827
    """
    flash = unit.settings.get("flash_attn")
    if flash is None or flash.value not in ("fa2", "fa3") or method(unit) not in ("full", "freeze") or not trains(unit):
        return
    if idle(unit, "bf16", "fp16", "pure_bf16", "fp8", "deepspeed", "fsdp", "use_badam"):
        off = unit.settings.get("bf16")
        fix = set_value(off, True) if off else add_after(flash, "bf16", True)
        yield Problem(flash, f"{flash.shown} needs bf16 or fp16, and neither is on", fix, (off,) if off else ())


@rule(
    "LF313",
    "training-in-float32",
    tools=("llamafactory",),
    harm="slow",
    severity="info",
    causes=("no-mixed-precision",),
)
def training_in_float32(unit: Unit, job: Job) -> Found:
    """Allow training-in-float32.

    ## What it does
    Finds a configuration that trains with none of `bf16`, `fp16`, `pure_bf16` and `fp8`.

    ## Why is this bad?
    Matrix products then run in float32, at a fraction of the speed and with twice the activations: "We recommend enable
    mixed precision training."

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen2.5-7B-Instruct
    stage: sft
    do_train: true
    finetuning_type: lora
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - llamafactory 0.9.5, hparams/parser.py, get_train_args
    """
    if trains(unit) and used(unit, "stage", "finetuning_type") and unset(unit, "bf16", "fp16", "pure_bf16", "fp8"):
        yield Problem(unit["do_train"], "neither bf16 nor fp16 is on", add_after(unit["do_train"], "bf16", True))
