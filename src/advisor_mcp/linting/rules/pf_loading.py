"""Loading a model for training: where it is placed, in how many bits, and which attention it can use."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._hf import (
    accelerated,
    adapter,
    deepspeed_of,
    flash_attention,
    fsdp_of,
    fsdp_version,
    load_dtype,
    lower,
    named_before,
    named_since,
    single,
    zero_stage,
)
from advisor_mcp.linting.unit import Setting, Unit

LOADING = ("hf_trainer", "trl")
MAPS = ("device_map", "model_init_kwargs.device_map")
LOW_MEMORY = ("low_cpu_mem_usage", "model_init_kwargs.low_cpu_mem_usage")
STORAGE = ("bnb_4bit_quant_storage", "bnb_4bit_quant_storage_dtype")
HALF = ("float16", "fp16", "half")


def _device_map(unit: Unit) -> Setting | None:
    """The setting that places the model, unless it says that nothing is placed."""
    found = single(unit, MAPS)
    return None if found is None or found.value in ("", "none", "None", "null", {}) else found


@rule("PF001", "device-map-under-stage-3", tools=LOADING, harm="crash", causes=("zero3-device-map",))
def device_map_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow device-map-under-stage-3.

    ## What it does
    Finds `device_map`, or before transformers 4.5x `low_cpu_mem_usage: true`, with ZeRO stage 3.

    ## Why is this bad?
    Stage 3 partitions weights while they load, the two place whole weights: "DeepSpeed Zero-3 is not compatible with
    `low_cpu_mem_usage=True` or with passing a `device_map`."

    ## Example
    ```yaml train.yaml
    model_name_or_path: google/flan-t5-xxl
    output_dir: out
    device_map: {"": 0}
    deepspeed: ds_z3.json
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: google/flan-t5-xxl
    output_dir: out
    deepspeed: ds_z3.json
    ```

    ## Versions
    All; transformers 4.57 and later name `device_map` only.

    ## References
    - transformers 5.23.0, integrations/accelerate.py
    - transformers 4.46.3, modeling_utils.py, from_pretrained
    - huggingface/peft#306
    - huggingface/accelerate#2543
    - hiyouga/LlamaFactory#3949
    """
    if zero_stage(unit, job) != 3:
        return
    placed = _device_map(unit)
    if placed is not None:
        yield Problem(placed, f"{placed.shown} does not go with ZeRO stage 3", remove(placed), _engine(unit))
        return
    low = unit.on(*LOW_MEMORY)
    if low is not None and not named_since(unit, "transformers", "4.50"):
        yield Problem(low, f"{low.shown} does not go with ZeRO stage 3", remove(low), _engine(unit))


def _engine(unit: Unit) -> tuple[Setting, ...]:
    found = used(unit, "deepspeed", "fsdp")
    return (found,) if found else ()


@rule("PF002", "device-map-in-distributed-training", tools=LOADING, harm="crash", causes=("device-map-distributed",))
def device_map_in_distributed_training(unit: Unit, job: Job) -> Found:
    """Allow device-map-in-distributed-training.

    ## What it does
    Finds `device_map: auto` (or balanced, sequential) in a job of several processes, or with DeepSpeed or FSDP.

    ## Why is this bad?
    Every process would spread its model over all GPUs: "You can't train a model that has been loaded with
    `device_map='auto'` in any distributed mode."

    ## Example
    ```yaml train.yaml world_size=8
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    device_map: auto
    ```

    ## Use instead
    ```yaml train.yaml world_size=8
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, accelerator.py, prepare
    - huggingface/transformers#31557
    - QwenLM/Qwen#1081
    """
    placed, world = _device_map(unit), job.world_size(unit)
    if placed is None or str(placed.value) not in ("auto", "balanced", "balanced_low_0", "sequential"):
        return
    stage, engine = zero_stage(unit, job), fsdp_of(unit, job) or used(unit, "deepspeed")
    if stage != 3 and (engine is not None or (world is not None and world > 1)):
        said = engine.shown if engine else f"{world} processes"
        yield Problem(placed, f"{placed.shown} does not go with {said}", remove(placed), (engine,) if engine else ())


@rule("PF003", "four-bit-storage-under-fsdp", tools=LOADING, harm="crash", causes=("fsdp-qlora-storage",))
def four_bit_storage_under_fsdp(unit: Unit, job: Job) -> Found:
    """Allow four-bit-storage-under-fsdp.

    ## What it does
    Finds 4-bit weights under FSDP whose `bnb_4bit_quant_storage` is not the format the model is loaded in, and 8-bit
    weights under FSDP.

    ## Why is this bad?
    4-bit weights are kept as bytes unless a storage format is named, and FSDP1 flattens parameters of one format only:
    "Must flatten tensors with uniform dtype but got torch.bfloat16 and torch.uint8". FSDP2 leaves such weights unsharded.

    ## Example
    ```yaml train.yaml
    model_name_or_path: meta-llama/Llama-2-70b-hf
    output_dir: out
    load_in_4bit: true
    torch_dtype: bfloat16
    use_peft: true
    fsdp: full_shard auto_wrap
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: meta-llama/Llama-2-70b-hf
    output_dir: out
    load_in_4bit: true
    bnb_4bit_quant_storage: bfloat16
    torch_dtype: bfloat16
    use_peft: true
    fsdp: full_shard auto_wrap
    ```

    ## Versions
    bitsandbytes 0.43 and later. TRL before 0.26 takes the format of the model by itself.

    ## References
    - huggingface/peft#1432
    - huggingface/trl#1723
    - bitsandbytes-foundation/bitsandbytes#1092
    - accelerate 1.15.0, utils/fsdp_utils.py
    """
    fsdp, four, eight = fsdp_of(unit, job), unit.on("load_in_4bit"), unit.on("load_in_8bit")
    if fsdp is None:
        return
    if eight is not None and four is None:
        yield Problem(
            eight,
            f"{eight.shown}: FSDP cannot shard 8-bit weights",
            advise("use load_in_4bit with bnb_4bit_quant_storage"),
            (fsdp,),
        )
    if four is None or (unit.tool == "trl" and unit.before("0.26")):
        return
    dtype, storage = load_dtype(unit), single(unit, STORAGE)
    wanted = dtype if dtype in ("bfloat16", "float16", "float32") else "bfloat16"
    severity: Severity | None = "warning" if fsdp_version(unit, job) == 2 else None
    if storage is None and unit.absent(*STORAGE):
        name = "--bnb_4bit_quant_storage" if four.syntax == "shell" else "bnb_4bit_quant_storage"
        fix = add_after(four, name, wanted)
        yield Problem(
            four,
            f"{four.shown} under FSDP without bnb_4bit_quant_storage: the weights are stored as uint8",
            fix,
            (fsdp,),
            severity,
        )
    elif (
        storage is not None
        and dtype
        and str(storage.value).removeprefix("torch.") != dtype
        and dtype in ("bfloat16", "float16", "float32")
    ):
        fix = set_value(storage, dtype)
        yield Problem(
            storage, f"{storage.shown} differs from the {dtype} that the model is loaded in", fix, (fsdp,), severity
        )


@rule(
    "PF004",
    "quantised-training-without-adapter",
    tools=("trl",),
    harm="crash",
    causes=("quant-needs-lora", "quant-without-adapter"),
)
def quantised_training_without_adapter(unit: Unit, job: Job) -> Found:
    """Allow quantised-training-without-adapter.

    ## What it does
    Finds `load_in_4bit` or `load_in_8bit` in TRL without `use_peft: true`.

    ## Why is this bad?
    Quantised weights cannot be trained: "You cannot perform fine-tuning on purely quantized models. Please attach
    trainable adapters on top of the quantized model".

    ## Example
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    load_in_4bit: true
    ```

    ## Use instead
    ```yaml train.yaml
    # trl sft
    model_name_or_path: Qwen/Qwen2.5-7B
    output_dir: out
    load_in_4bit: true
    use_peft: true
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, trainer_utils.py, validate_quantization_for_training
    - trl 1.16.0, trainer/model_config.py
    """
    bits = unit.on("load_in_4bit", "load_in_8bit")
    if bits is not None and adapter(unit) is False:
        peft = unit.setting("use_peft")
        fix = (
            set_value(peft, True)
            if peft
            else add_after(
                bits, "--use_peft" if bits.syntax == "shell" else "use_peft", None if bits.syntax == "shell" else True
            )
        )
        yield Problem(
            bits, f"{bits.shown} without use_peft: quantised weights are not trained", fix, (peft,) if peft else ()
        )


@rule("PF005", "four-and-eight-bits", tools=LOADING, harm="crash", causes=("quant-both-bits",))
def four_and_eight_bits(unit: Unit, job: Job) -> Found:
    """Allow four-and-eight-bits.

    ## What it does
    Finds `load_in_4bit` and `load_in_8bit` together.

    ## Why is this bad?
    bitsandbytes quantises one way: "load_in_4bit and load_in_8bit are both True, but only one can be used at the same
    time".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    load_in_4bit: true
    load_in_8bit: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    load_in_4bit: true
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, utils/quantization_config.py, BitsAndBytesConfig
    - trl 1.16.0, trainer/model_config.py
    """
    four, eight = unit.on("load_in_4bit"), unit.on("load_in_8bit")
    if four and eight:
        yield Problem(eight, f"{four.shown} and {eight.shown}: only one can be used", remove(eight), (four,))


@rule("PF006", "loss-scaling-on-half-weights", tools=LOADING, harm="crash", causes=("fp16-on-fp16-weights",))
def loss_scaling_on_half_weights(unit: Unit, job: Job) -> Found:
    """Allow loss-scaling-on-half-weights.

    ## What it does
    Finds `fp16: true` for a full fine-tune of weights that are loaded in float16.

    ## Why is this bad?
    Mixed precision keeps 32-bit weights and scales the loss; gradients that are float16 themselves cannot be unscaled:
    "Attempting to unscale FP16 gradients."

    ## Example
    ```yaml train.yaml
    model_name_or_path: facebook/opt-1.3b
    output_dir: out
    torch_dtype: float16
    fp16: true
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: facebook/opt-1.3b
    output_dir: out
    torch_dtype: float32
    fp16: true
    ```

    ## Versions
    All. DeepSpeed and FSDP keep 32-bit copies of their own; adapters are kept in 32 bits since peft 0.12.

    ## References
    - huggingface/transformers#23165
    - bitsandbytes-foundation/bitsandbytes#945
    - modelscope/ms-swift#4352
    """
    fp16, dtype = unit.on("fp16"), load_dtype(unit)
    trained = adapter(unit) is False or (adapter(unit) is True and named_before(unit, "peft", "0.12"))
    if fp16 is None or dtype not in HALF or not trained:
        return
    if fsdp_of(unit, job) or used(unit, "deepspeed") or zero_stage(unit, job):
        return
    setting = single(unit, ("dtype", "torch_dtype", "model_init_kwargs.dtype", "model_init_kwargs.torch_dtype"))
    if setting is not None:
        fix = set_value(setting, "float32", why="or train in bf16")
        yield Problem(
            setting, f"{setting.shown} with {fp16.shown}: the weights themselves must be float32", fix, (fp16,)
        )


@rule("PF007", "flash-attention-in-full-precision", tools=LOADING, harm="crash", causes=("fa2-dtype",))
def flash_attention_in_full_precision(unit: Unit, job: Job) -> Found:
    """Allow flash-attention-in-full-precision.

    ## What it does
    Finds FlashAttention while the model is loaded in float32 and neither `bf16` nor `fp16` is on.

    ## Why is this bad?
    Its kernels know 16 bits only: "FlashAttention only support fp16 and bf16 data type".

    ## Example
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen1.5-7B-Chat
    output_dir: out
    attn_implementation: flash_attention_2
    bf16: false
    ```

    ## Use instead
    ```yaml train.yaml
    model_name_or_path: Qwen/Qwen1.5-7B-Chat
    output_dir: out
    attn_implementation: flash_attention_2
    bf16: true
    ```

    ## Versions
    All. Where no `dtype` is given, transformers 4 loads float32 and 5 loads what the checkpoint holds. TRL trains in bf16
    since 0.19 unless told otherwise, and loads float32.

    ## References
    - QwenLM/Qwen3#406
    - Dao-AILab/flash-attention#622
    - unslothai/unsloth#827
    - allenai/open-instruct#165
    """
    flash, dtype = flash_attention(unit), load_dtype(unit)
    if (
        flash is None
        or dtype is None
        or dtype not in ("", "float32", "fp32", "float")
        or unit.on("load_in_4bit", "load_in_8bit")
    ):
        return
    if dtype == "" and unit.tool == "hf_trainer" and named_since(unit, "transformers", "5.0"):
        return
    usual = unit.tool == "trl" and unit.since("0.19")
    deepspeed = deepspeed_of(unit, job)
    if unit.open or any(unit.truth(name, name == "bf16" and usual) is not False for name in ("bf16", "fp16")):
        return
    if deepspeed is not None and deepspeed.on("bf16.enabled", "fp16.enabled"):
        return
    if any(lower(other, "mixed_precision", "no") not in ("no", "false") for other in accelerated(unit, job)):
        return
    bf16 = unit.setting("bf16")
    fix = set_value(bf16, True) if bf16 else advise("set bf16: true, or load the model in bfloat16")
    yield Problem(
        flash, f"{flash.shown} needs 16-bit numbers, and the model trains in float32", fix, (bf16,) if bf16 else ()
    )


@rule("PF008", "right-padding-with-flash-attention", tools=LOADING, harm="crash", causes=("fa2-padding-side",))
def right_padding_with_flash_attention(unit: Unit, job: Job) -> Found:
    """Allow right-padding-with-flash-attention.

    ## What it does
    Finds `padding_side: right` with FlashAttention while the model's cache is on (`use_cache: true`).

    ## Why is this bad?
    Older versions take it for generation and stop: "You are attempting to perform batched generation with
    padding_side='right'"; newer ones generate from padding.

    ## Example
    ```yaml train.yaml transformers=4.46.3
    model_name_or_path: NousResearch/Yarn-Mistral-7b-128k
    output_dir: out
    attn_implementation: flash_attention_2
    padding_side: right
    use_cache: true
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.46.3
    model_name_or_path: NousResearch/Yarn-Mistral-7b-128k
    output_dir: out
    attn_implementation: flash_attention_2
    padding_side: right
    use_cache: false
    ```

    ## Versions
    An error before transformers 4.56.

    ## References
    - huggingface/trl#1018
    - QwenLM/Qwen3#468
    - huggingface/open-r1#421
    """
    flash, cache = flash_attention(unit), unit.on("use_cache")
    if (
        flash is None
        or cache is None
        or lower(unit, "padding_side") != "right"
        or named_since(unit, "transformers", "4.56")
    ):
        return
    side = unit["padding_side"]
    severity: Severity | None = None if named_before(unit, "transformers", "4.56") else "warning"
    fix = set_value(cache, False, why="for training; pad on the left to generate")
    yield Problem(side, f"{side.shown} with {flash.shown} while {cache.shown}", fix, (flash, cache), severity)
