"""Axolotl: number formats of weights, activations and the optimizer."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.unit import Unit


@rule("AX502", "cut-cross-entropy-in-float32", tools=("axolotl",), harm="crash", causes=("cce-dtype",))
def cut_cross_entropy_in_float32(unit: Unit, job: Job) -> Found:
    """Allow cut-cross-entropy-in-float32.

    ## What it does
    Finds `cut_cross_entropy: true` without `bf16` or `fp16`. A missing `bf16` counts as missing here, not as `auto`.

    ## Why is this bad?
    "Cut Cross Entropy requires fp16/bf16 training for backward pass."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]
    cut_cross_entropy: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    plugins: [axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin]
    cut_cross_entropy: true
    bf16: auto
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, integrations/cut_cross_entropy/args.py, check_dtype_is_half
    """
    loss = used(unit, "cut_cross_entropy")
    if loss and idle(unit, "bf16", "fp16"):
        off = unit.settings.get("bf16")
        fix = set_value(off, "auto") if off else add_after(loss, "bf16", "auto")
        yield Problem(loss, "cut_cross_entropy needs bf16 or fp16, and neither is on", fix, (off,) if off else ())


@rule("AX508", "float16-weights-with-a-scaler", tools=("axolotl",), harm="crash", causes=("fp16-on-fp16-weights",))
def float16_weights_with_a_scaler(unit: Unit, job: Job) -> Found:
    """Allow float16-weights-with-a-scaler.

    ## What it does
    Finds a full fine-tune with `fp16: true` and bf16 off, without DeepSpeed or FSDP.

    ## Why is this bad?
    Axolotl loads the model in float16 then, and the trainer's gradient scaler does not take float16 gradients:
    "ValueError: Attempting to unscale FP16 gradients."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    learning_rate: 2e-5
    bf16: false
    fp16: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    learning_rate: 2e-5
    bf16: auto
    ```

    ## Versions
    All. LoRA is not affected: its weights stay in float32.

    ## References
    - axolotl-ai-cloud/axolotl#1031
    - axolotl 0.21.0, utils/config/__init__.py, resolve_dtype
    """
    half = used(unit, "fp16")
    sharded = ("adapter", "deepspeed", "fsdp_config", "fsdp", "bfloat16", "load_in_8bit", "load_in_4bit")
    bf16 = unit.settings.get("bf16")
    off = bf16 is None or (bf16.known and bf16.value not in (True, "full"))
    if half and off and idle(unit, *sharded) and used(unit, "learning_rate"):
        fix = set_value(half, False, why="and bf16: true on Ampere or newer")
        yield Problem(
            half,
            "a full fine-tune with fp16: true loads float16 weights, whose gradients the scaler refuses",
            fix,
            (bf16,) if bf16 else (),
        )


@rule(
    "AX509", "two-half-precisions", tools=("axolotl",), harm="ignored", severity="info", causes=("precision-conflict",)
)
def two_half_precisions(unit: Unit, job: Job) -> Found:
    """Allow two-half-precisions.

    ## What it does
    Finds `bf16: true` and `fp16: true` in one configuration.

    ## Why is this bad?
    Axolotl silently turns fp16 off then, so one of the lines is not what was meant.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    bf16: true
    fp16: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/config/__init__.py, resolve_dtype
    """
    first, second = unit.settings.get("bf16"), used(unit, "fp16")
    if first and second and first.value is True:
        yield Problem(second, "fp16: true is ignored beside bf16: true", remove(second, safe=True), (first,))


@rule("AX510", "incomplete-fp8", tools=("axolotl",), harm="crash", causes=("fp8-config",))
def incomplete_fp8(unit: Unit, job: Job) -> Found:
    """Allow incomplete-fp8.

    ## What it does
    Finds `fp8_config` without `fp8: true`, and `fp8_enable_fsdp_float8_all_gather` without FSDP or with row-wise scaling.

    ## Why is this bad?
    "`fp8_config` requires `fp8: true`", "fp8_enable_fsdp_float8_all_gather requires FSDP2 (fsdp_config) to be used."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp8: true
    torch_compile: true
    fp8_enable_fsdp_float8_all_gather: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp8: true
    torch_compile: true
    ```

    ## Versions
    axolotl 0.12 and later; `fp8_config` since 0.19.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_fp8_config
    """
    config, gather = used(unit, "fp8_config"), used(unit, "fp8_enable_fsdp_float8_all_gather")
    if config and idle(unit, "fp8"):
        yield Problem(
            config,
            "fp8_config needs fp8: true",
            add_after(config, "fp8", True) if "fp8" not in unit else set_value(unit["fp8"], True),
        )
    if gather and idle(unit, "fsdp_config"):
        yield Problem(gather, "fp8_enable_fsdp_float8_all_gather needs fsdp_config", remove(gather))
    elif gather and unit.text("fp8_config.recipe", "tensorwise") not in ("tensorwise", None):
        yield Problem(
            gather,
            "fp8_enable_fsdp_float8_all_gather works with the tensorwise recipe only",
            remove(gather),
            (unit["fp8_config.recipe"],),
        )


@rule("AX511", "fp8-without-compile", tools=("axolotl",), harm="slow", severity="warning", causes=("fp8-compile",))
def fp8_without_compile(unit: Unit, job: Job) -> Found:
    """Allow fp8-without-compile.

    ## What it does
    Finds `fp8: true` without `torch_compile`.

    ## Why is this bad?
    The casts to FP8 are not fused with anything then, and eat what the faster products gain: "torch_compile is strongly
    recommended for FP8 training in order to see speed improvements".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp8: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp8: true
    torch_compile: true
    ```

    ## Versions
    axolotl 0.12 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_fp8_config
    """
    eight = used(unit, "fp8")
    if eight and idle(unit, "torch_compile"):
        off = unit.settings.get("torch_compile")
        fix = set_value(off, True) if off else add_after(eight, "torch_compile", True)
        yield Problem(eight, "fp8 without torch_compile is no faster than bf16", fix, (off,) if off else ())


@rule("AX512", "fp32-norms-without-fsdp", tools=("axolotl",), harm="crash", causes=("fp32-norms",))
def fp32_norms_without_fsdp(unit: Unit, job: Job) -> Found:
    """Allow fp32-norms-without-fsdp.

    ## What it does
    Finds `fp32_norms: true` without `fsdp_config`.

    ## Why is this bad?
    It is a setting of FSDP's mixed precision: "fp32_norms requires FSDP to be enabled".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp32_norms: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    fp32_norms: true
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Versions
    axolotl 0.17 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_fp32_norms
    """
    norms = used(unit, "fp32_norms")
    if norms and unit.since("0.17") and idle(unit, "fsdp_config"):
        yield Problem(norms, "fp32_norms needs fsdp_config", remove(norms))
