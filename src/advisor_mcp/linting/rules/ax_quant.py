"""Axolotl: adapters on quantised weights, and weights that are quantised without one."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used, zero_stage
from advisor_mcp.linting.rules.ax_adapter import adapter_of
from advisor_mcp.linting.unit import Unit

BITS = ("load_in_8bit", "load_in_4bit")


@rule("AX101", "qlora-in-full-precision", tools=("axolotl",), harm="crash", causes=("qlora-needs-4bit",))
def qlora_in_full_precision(unit: Unit, job: Job) -> Found:
    """Allow qlora-in-full-precision.

    ## What it does
    Finds `adapter: qlora` without `load_in_4bit: true`.

    ## Why is this bad?
    QLoRA is LoRA on a 4-bit base, and Axolotl refuses anything else: "Require cfg.load_in_4bit to be True for qlora".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    lora_r: 16
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    lora_r: 16
    ```

    ## Versions
    All. Not while merging (`merge_lora`).

    ## References
    - axolotl 0.21.0, utils/schemas/peft.py, validate_qlora
    """
    if adapter_of(unit) != "qlora" or not idle(unit, "load_in_4bit", "load_in_8bit", "gptq", "merge_lora"):
        return
    off = unit.settings.get("load_in_4bit")
    fix = set_value(off, True) if off else add_after(unit["adapter"], "load_in_4bit", True)
    also = (off,) if off else ()
    yield Problem(unit["adapter"], "adapter: qlora needs load_in_4bit: true, which is not set", fix, also)


@rule("AX102", "qlora-on-another-format", tools=("axolotl",), harm="crash", causes=("quant-conflict",))
def qlora_on_another_format(unit: Unit, job: Job) -> Found:
    """Allow qlora-on-another-format.

    ## What it does
    Finds `adapter: qlora` with `load_in_8bit` or `gptq`, and `model_quantization_config` with bitsandbytes' switches.

    ## Why is this bad?
    The base can be quantised one way only: "Can't load qlora in 8bit", "Can't load qlora if gptq",
    "model_quantization_config and load_in_8bit or load_in_4bit cannot be used together".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_8bit: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    ```

    ## Versions
    All; `model_quantization_config` since axolotl 0.12.

    ## References
    - axolotl 0.21.0, utils/schemas/peft.py, validate_qlora
    - axolotl 0.21.0, utils/schemas/validation.py, check_model_quantization_config_vs_bnb
    """
    if adapter_of(unit) == "qlora" and not used(unit, "merge_lora"):
        for found in all_used(unit, ("load_in_8bit", "gptq")):
            yield Problem(
                found,
                f"{found.shown} does not go with adapter: qlora, which needs load_in_4bit",
                remove(found),
                (unit["adapter"],),
            )
    if quantised := used(unit, "model_quantization_config"):
        for found in all_used(unit, BITS):
            yield Problem(
                found, f"{found.shown} and {quantised.shown} quantise the base twice", remove(found), (quantised,)
            )


@rule("AX103", "quantised-full-fine-tune", tools=("axolotl",), harm="crash", causes=("quant-without-adapter",))
def quantised_full_fine_tune(unit: Unit, job: Job) -> Found:
    """Allow quantised-full-fine-tune.

    ## What it does
    Finds `load_in_8bit` or `load_in_4bit` without an `adapter`.

    ## Why is this bad?
    Quantised weights cannot be trained: "load_in_8bit and load_in_4bit are not supported without setting an adapter for
    training".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    load_in_8bit: true
    micro_batch_size: 2
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    load_in_8bit: true
    micro_batch_size: 2
    ```

    ## Versions
    All.

    ## References
    - axolotl-ai-cloud/axolotl#770
    - axolotl 0.21.0, utils/schemas/peft.py, validate_adapter
    """
    if adapter_of(unit) == "" and idle(unit, "inference"):
        for found in all_used(unit, BITS)[:1]:
            fix = set_value(found, False, why="or set an adapter")
            yield Problem(found, f"{found.shown} needs an adapter; without one the whole model is trained", fix)


@rule("AX115", "quantisation-aware-training-of-an-adapter", tools=("axolotl",), harm="crash", causes=("qat-quant",))
def quantisation_aware_training_of_an_adapter(unit: Unit, job: Job) -> Found:
    """Allow quantisation-aware-training-of-an-adapter.

    ## What it does
    Finds a `qat` section together with `peft`, `load_in_8bit` or `load_in_4bit`.

    ## Why is this bad?
    Quantisation-aware training simulates few bits while it trains full weights: "QAT and load_in_4bit cannot be used
    together."

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    qat:
      weight_dtype: int4
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    qat:
      weight_dtype: int4
    ```

    ## Versions
    axolotl 0.10 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_qat_config
    """
    qat = used(unit, "qat")
    for found in all_used(unit, ("peft", *BITS)) if qat else ():
        yield Problem(
            found,
            f"{found.written} does not go with quantisation-aware training (qat)",
            remove(found),
            (qat,) if qat else (),
        )


@rule("AX116", "experts-quantised-without-lora", tools=("axolotl",), harm="crash", causes=("quantize-moe-experts",))
def experts_quantised_without_lora(unit: Unit, job: Job) -> Found:
    """Allow experts-quantised-without-lora.

    ## What it does
    Checks that `quantize_moe_experts` has a LoRA adapter, a 4-bit or 8-bit base, and no `lora_target_linear`.

    ## Why is this bad?
    It is a way of loading a quantised base: "quantize_moe_experts requires load_in_4bit or load_in_8bit",
    "lora_target_linear is not compatible with quantize_moe_experts".

    ## Example
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen3-30B-A3B
    adapter: qlora
    load_in_4bit: true
    quantize_moe_experts: true
    lora_target_linear: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen3-30B-A3B
    adapter: qlora
    load_in_4bit: true
    quantize_moe_experts: true
    lora_target_parameters: [mlp.experts.gate_up_proj, mlp.experts.down_proj]
    ```

    ## Versions
    axolotl 0.15 and later.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_quantize_moe_experts
    """
    experts = used(unit, "quantize_moe_experts")
    if experts is None:
        return
    if linear := used(unit, "lora_target_linear"):
        yield Problem(
            linear,
            "lora_target_linear does not go with quantize_moe_experts",
            remove(linear, why="name lora_target_parameters"),
            (experts,),
        )
    if adapter_of(unit) not in ("lora", "qlora", None):
        yield Problem(experts, "quantize_moe_experts needs adapter: lora or qlora", remove(experts))
    elif idle(unit, *BITS):
        yield Problem(
            experts, "quantize_moe_experts needs load_in_4bit or load_in_8bit", add_after(experts, "load_in_4bit", True)
        )


@rule(
    "AX118",
    "eight-bit-lora-under-zero3",
    tools=("axolotl",),
    harm="wrong_result",
    severity="warning",
    causes=("zero3-8bit",),
)
def eight_bit_lora_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow eight-bit-lora-under-zero3.

    ## What it does
    Finds `load_in_8bit` with a DeepSpeed ZeRO-3 configuration.

    ## Why is this bad?
    ZeRO-3 cuts bitsandbytes' 8-bit weights apart from their scales. It trains without an error, but the loss is wrong by
    an order of magnitude; ZeRO-1 and ZeRO-2 are right.

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    load_in_8bit: true
    deepspeed: deepspeed_configs/zero3.json
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: lora
    load_in_8bit: true
    deepspeed: deepspeed_configs/zero2.json
    ```

    ## Versions
    All.

    ## References
    - bitsandbytes-foundation/bitsandbytes#1451
    """
    eight = used(unit, "load_in_8bit")
    if eight and zero_stage(unit, job) == 3:
        yield Problem(
            eight,
            "8-bit weights give a wrong loss under ZeRO-3",
            advise("use ZeRO-2, or load_in_4bit with FSDP"),
            (unit["deepspeed"],),
        )


@rule(
    "AX119",
    "qlora-recomputed-under-zero3",
    tools=("axolotl",),
    harm="crash",
    severity="warning",
    causes=("zero3-qlora-reentrant",),
)
def qlora_recomputed_under_zero3(unit: Unit, job: Job) -> Found:
    """Allow qlora-recomputed-under-zero3.

    ## What it does
    Finds QLoRA under ZeRO-3 with `use_reentrant: false`.

    ## Why is this bad?
    ZeRO-3 gathers weights anew for the recomputation, and the other kind of checkpointing compares what it sees:
    "CheckpointError: Recomputed values for the following tensors have different metadata than during the forward pass".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    deepspeed: deepspeed_configs/zero3_bf16.json
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: false
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    adapter: qlora
    load_in_4bit: true
    deepspeed: deepspeed_configs/zero3_bf16.json
    gradient_checkpointing: true
    gradient_checkpointing_kwargs:
      use_reentrant: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, warn_qlora_zero3_w_use_reentrant
    """
    reentrant = unit.settings.get("gradient_checkpointing_kwargs.use_reentrant")
    if adapter_of(unit) == "qlora" and reentrant and reentrant.value is False and zero_stage(unit, job) == 3:
        yield Problem(
            reentrant,
            "use_reentrant: false fails with QLoRA under ZeRO-3",
            set_value(reentrant, True),
            (unit["deepspeed"],),
        )


@rule("AX120", "gptq-with-revision", tools=("axolotl",), harm="crash", causes=("gptq-revision",))
def gptq_with_revision(unit: Unit, job: Job) -> Found:
    """Allow gptq-with-revision.

    ## What it does
    Finds `gptq: true` with `revision_of_model`.

    ## Why is this bad?
    The branch is not passed on for GPTQ models: "revision_of_model is not supported for GPTQ models."

    ## Example
    ```yaml axolotl.yaml
    base_model: TheBloke/Llama-2-7B-GPTQ
    adapter: lora
    gptq: true
    revision_of_model: gptq-4bit-32g
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: ./Llama-2-7B-GPTQ-4bit-32g
    adapter: lora
    gptq: true
    ```

    ## Versions
    All.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_gptq_w_revision
    """
    gptq, revision = used(unit, "gptq"), used(unit, "revision_of_model", "model_revision")
    if gptq and revision:
        yield Problem(
            revision,
            f"{revision.shown} does not work with gptq: true",
            remove(revision, why="download that branch and name its folder"),
            (gptq,),
        )
