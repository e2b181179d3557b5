"""DeepSpeed: number formats, loss scaling and how gradients are averaged."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import Fix, add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle
from advisor_mcp.linting.rules._hf import full, zero_stage
from advisor_mcp.linting.unit import Setting, Unit

COMMUNICATION = {"float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
MASTER = ("fp16.fp16_master_weights_and_grads", "bf16.bf16_master_weights_and_grads")


@rule("DS301", "both-half-formats-in-deepspeed", tools=("deepspeed",), harm="crash", causes=("precision-conflict",))
def both_half_formats_in_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow both-half-formats-in-deepspeed.

    ## What it does
    Finds `fp16` and `bf16` both enabled in a DeepSpeed file.

    ## Why is this bad?
    DeepSpeed stops: "bfloat16 and fp16 modes cannot be simultaneously enabled".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "fp16": {"enabled": true}, "bf16": {"enabled": true}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "fp16": {"enabled": false}, "bf16": {"enabled": true}}
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, _initialize_params
    """
    fp16, bf16 = unit.on("fp16.enabled"), unit.on("bf16.enabled", "bfloat16.enabled")
    if fp16 and bf16:
        fix = set_value(fp16, False, why="bf16 needs no loss scaling; it asks for Ampere or newer")
        yield Problem(fp16, "fp16 and bf16 are both enabled; one of them can be", fix, (bf16,))


@rule("DS302", "apex-amp-with-another-format", tools=("deepspeed",), harm="crash", causes=("amp-conflict",))
def apex_amp_with_another_format(unit: Unit, job: Job) -> Found:
    """Allow apex-amp-with-another-format.

    ## What it does
    Finds `amp.enabled: true` together with ZeRO, fp16 or bf16.

    ## Why is this bad?
    Apex AMP goes with none of them: "Amp and ZeRO are not currently compatible", "Cannot enable both amp with (legacy)
    fp16 or bfloat16 mode".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "amp": {"enabled": true}, "zero_optimization": {"stage": 2}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true}, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _do_optimizer_sanity_check
    - https://www.deepspeed.ai/docs/config-json/#automatic-mixed-precision-amp-training-options
    """
    amp = unit.on("amp.enabled")
    other = unit.on("fp16.enabled", "bf16.enabled") or (
        unit.setting("zero_optimization.stage") if zero_stage(unit, job) else None
    )
    if amp and other:
        yield Problem(amp, f"amp does not go with {full(other)}", set_value(amp, False), (other,))


@rule("DS303", "unknown-communication-format", tools=("deepspeed",), harm="crash", causes=("comm-dtype",))
def unknown_communication_format(unit: Unit, job: Job) -> Found:
    """Allow unknown-communication-format.

    ## What it does
    Finds a `communication_data_type` or `seq_parallel_communication_data_type` other than fp16, bf16 and fp32.

    ## Why is this bad?
    DeepSpeed knows the short names only: "Invalid communication_data_type. Supported data types: ['fp16', 'bf16',
    'fp32']. Got: bfloat16".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}, "communication_data_type": "bfloat16"}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}, "communication_data_type": "bf16"}
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, get_communication_data_type
    - deepspeedai/DeepSpeed#1487
    """
    for name in ("communication_data_type", "seq_parallel_communication_data_type"):
        text = unit.text(name)
        if text is None or text.lower() in ("fp16", "bf16", "fp32"):
            continue
        right = COMMUNICATION.get(text.lower().removeprefix("torch."))
        fix = set_value(unit[name], right, safe=True) if right else advise("use fp16, bf16 or fp32")
        yield Problem(unit[name], f"{full(unit[name])} is none of fp16, bf16 and fp32", fix)


@rule("DS304", "gradient-prescaling-under-zero", tools=("deepspeed",), harm="crash", causes=("prescale-zero",))
def gradient_prescaling_under_zero(unit: Unit, job: Job) -> Found:
    """Allow gradient-prescaling-under-zero.

    ## What it does
    Finds `prescale_gradients: true` or a `gradient_predivide_factor` other than 1 under ZeRO with `reduce_scatter` on.

    ## Why is this bad?
    ZeRO stops: "pre-scale gradients is not yet supported with ZeRO-2 with reduce scatter enabled".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "prescale_gradients": true, "zero_optimization": {"stage": 2}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "prescale_gradients": false, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All. `reduce_scatter` is on by default.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/zero/stage_1_and_2.py
    - deepspeed 0.19.8, deepspeed/runtime/zero/stage3.py
    """
    stage = zero_stage(unit, job)
    if not stage or unit.truth("zero_optimization.reduce_scatter", True) is not True:
        return
    if scaled := unit.on("prescale_gradients"):
        yield Problem(
            scaled, f"{full(scaled)} does not go with ZeRO stage {stage} and reduce_scatter", set_value(scaled, False)
        )
    factor = unit.number("gradient_predivide_factor", 1)
    if factor is not None and factor != 1:
        found = unit["gradient_predivide_factor"]
        yield Problem(found, f"{full(found)} does not go with ZeRO stage {stage} and reduce_scatter", remove(found))


@rule("DS305", "low-precision-master-weights", tools=("deepspeed",), harm="crash", causes=("master-weights",))
def low_precision_master_weights(unit: Unit, job: Job) -> Found:
    """Allow low-precision-master-weights.

    ## What it does
    Finds 16-bit master weights (`fp16_master_weights_and_grads`, `bf16_master_weights_and_grads`) without ZeRO, or without
    optimizer offload where the optimizer's states stay in 32 bits; and `bf16_optimizer_states` without them.

    ## Why is this bad?
    DeepSpeed stops: "Fp16_master_weights_and_grads is only supported with ZeRO Stage 1, 2, or 3.", "Master weights feature
    requires ZeRO-3 Offload with DeepSpeedCPUAdam", "bf16_optimizer_states requires bf16_master_weights_and_grads".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3},
      "bf16": {"enabled": true, "bf16_master_weights_and_grads": true}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3},
      "bf16": {"enabled": true, "bf16_master_weights_and_grads": true, "bf16_optimizer_states": true}
    }
    ```

    ## Versions
    fp16: since deepspeed 0.6; bf16: since 0.18.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/config.py, _do_error_check
    - https://www.deepspeed.ai/docs/config-json/#bfloat16-training-options
    """
    states, stage = unit.on("bf16.bf16_optimizer_states"), zero_stage(unit, job)
    for name in MASTER:
        master = unit.on(name)
        if master is None:
            continue
        kept = states is not None and name.startswith("bf16")
        if stage == 0:
            yield Problem(
                master, f"{full(master)} needs ZeRO, and the stage is 0", set_value(master, False), _stage(unit)
            )
        elif stage and not kept and idle(unit, "zero_optimization.offload_optimizer"):
            yield Problem(
                master, f"{full(master)} needs optimizer offload to the processor", _states(unit, master), _stage(unit)
            )
    if states is not None and unit.on(MASTER[1]) is None:
        fix = add_after(states, "bf16_master_weights_and_grads", True)
        yield Problem(states, f"{full(states)} needs bf16_master_weights_and_grads: true", fix)


def _stage(unit: Unit) -> tuple[Setting, ...]:
    found = unit.setting("zero_optimization.stage")
    return (found,) if found else ()


def _states(unit: Unit, master: Setting) -> Fix:
    if master.name.startswith("bf16"):
        return add_after(master, "bf16_optimizer_states", True, why="or offload the optimizer")
    return (
        add_after(unit["zero_optimization.stage"], "offload_optimizer", {"device": "cpu"})
        if _stage(unit)
        else remove(master)
    )


@rule("DS306", "impossible-loss-scaling", tools=("deepspeed",), harm="crash", causes=("loss-scale-range",))
def impossible_loss_scaling(unit: Unit, job: Job) -> Found:
    """Allow impossible-loss-scaling.

    ## What it does
    Finds fp16 with a negative `loss_scale`, or dynamic scaling with a `loss_scale_window` or `min_loss_scale` of 0 or less.

    ## Why is this bad?
    The scale is adjusted every `loss_scale_window` steps: 0 divides by zero. A floor of 0 lets the scale, and with it all
    gradients, vanish. Newer versions refuse both: "fp16.loss_scale_window must be > 0".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "fp16": {"enabled": true, "loss_scale": 0, "loss_scale_window": 0}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "fp16": {"enabled": true, "loss_scale": 0, "loss_scale_window": 1000}}
    ```

    ## Versions
    All; refused at start in 0.19.

    ## References
    - deepspeed 0.19.6, deepspeed/runtime/precision_config.py, DeepSpeedFP16Config
    """
    if unit.on("fp16.enabled") is None:
        return
    scale = unit.number("fp16.loss_scale", 0)
    if scale is not None and scale < 0:
        yield Problem(
            unit["fp16.loss_scale"],
            f"{full(unit['fp16.loss_scale'])} is negative",
            set_value(unit["fp16.loss_scale"], 0),
        )
    for name, usual in (("fp16.loss_scale_window", 1000), ("fp16.min_loss_scale", 1)):
        value = unit.number(name, usual)
        if scale == 0 and value is not None and value <= 0:
            yield Problem(
                unit[name], f"{full(unit[name])} must be above 0 for dynamic loss scaling", set_value(unit[name], usual)
            )


@rule("DS307", "accumulation-format-without-zero", tools=("deepspeed",), harm="crash", causes=("grad-accum-dtype",))
def accumulation_format_without_zero(unit: Unit, job: Job) -> Found:
    """Allow accumulation-format-without-zero.

    ## What it does
    Finds `data_types.grad_accum_dtype` other than the format of training while ZeRO is off.

    ## Why is this bad?
    Only ZeRO accumulates in another format: "unsupported mix of model_dtype and grad_accum_dtype".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": true}, "data_types": {"grad_accum_dtype": "fp32"}}
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "bf16": {"enabled": true},
      "zero_optimization": {"stage": 1},
      "data_types": {"grad_accum_dtype": "fp32"}
    }
    ```

    ## Versions
    Since deepspeed 0.8.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, _do_optimizer_sanity_check
    """
    name = "data_types.grad_accum_dtype"
    text = unit.text(name)
    if (
        text is None
        or zero_stage(unit, job) != 0
        or any(unit.text(f"{kind}.enabled") == "auto" for kind in ("fp16", "bf16"))
    ):
        return
    model = "fp16" if unit.on("fp16.enabled") else "bf16" if unit.on("bf16.enabled") else "fp32"
    if COMMUNICATION.get(text.lower(), text.lower()) != model:
        yield Problem(
            unit[name],
            f"gradients are accumulated in {text}, training is in {model}, and without ZeRO they must agree",
            remove(unit[name]),
        )


@rule(
    "DS308", "contiguous-checkpointing-alone", tools=("deepspeed",), harm="crash", causes=("contiguous-checkpointing",)
)
def contiguous_checkpointing_alone(unit: Unit, job: Job) -> Found:
    """Allow contiguous-checkpointing-alone.

    ## What it does
    Finds `contiguous_memory_optimization: true` without `partition_activations: true` or without `number_checkpoints`.

    ## Why is this bad?
    DeepSpeed's activation checkpointing stops: "Contiguous Checkpointing is only available with partitioned activations",
    "Must specify the number of layers with contiguous memory checkpointing".

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "activation_checkpointing": {"contiguous_memory_optimization": true}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "activation_checkpointing": {
        "partition_activations": true, "contiguous_memory_optimization": true, "number_checkpoints": 32
      }
    }
    ```

    ## Versions
    All. It matters to models that call `deepspeed.checkpointing` only.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/activation_checkpointing/checkpointing.py, configure
    """
    section = "activation_checkpointing"
    found = unit.on(f"{section}.contiguous_memory_optimization")
    if found is None:
        return
    partition, count = unit.truth(f"{section}.partition_activations"), f"{section}.number_checkpoints"
    if partition is False:
        yield Problem(found, f"{full(found)} needs partition_activations: true", set_value(found, False))
    elif idle(unit, count):
        yield Problem(
            found, f"{full(found)} needs number_checkpoints, the number of checkpointed layers", set_value(found, False)
        )


@rule("DS309", "timing-in-every-step", tools=("deepspeed",), harm="slow", severity="info", causes=("ds-profiling-on",))
def timing_in_every_step(unit: Unit, job: Job) -> Found:
    """Allow timing-in-every-step.

    ## What it does
    Finds DeepSpeed's measuring left on: `wall_clock_breakdown`, `memory_breakdown`, `comms_logger`, `flops_profiler`.

    ## Why is this bad?
    Each waits for the GPU around forward, backward and step, or around every collective, so that computation and
    communication do not overlap.

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "comms_logger": {"enabled": true}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "comms_logger": {"enabled": false}}
    ```

    ## Versions
    All.

    ## References
    - https://www.deepspeed.ai/docs/config-json/#communication-logging
    """
    for name in ("wall_clock_breakdown", "memory_breakdown", "comms_logger.enabled", "flops_profiler.enabled"):
        if found := unit.on(name):
            yield Problem(
                found, f"{full(found)} waits for the GPU to measure; it is for a profiling run", set_value(found, False)
            )


@rule(
    "DS310",
    "half-precision-on-bfloat16-model",
    tools=("deepspeed", *HF_FAMILY),
    harm="nan",
    severity="warning",
    causes=("fp16-on-bf16-model",),
)
def half_precision_on_bfloat16_model(unit: Unit, job: Job) -> Found:
    """Allow half-precision-on-bfloat16-model.

    ## What it does
    Finds training in fp16 of a model whose weights are published in bfloat16.

    ## Why is this bad?
    bfloat16 reaches 3e38, fp16 only 65,504: activations that were fine in pre-training overflow, the loss scale falls step
    by step and DeepSpeed ends with "Current loss scale already at minimum - cannot decrease scale anymore".

    ## Example
    ```json ds_config.json model={"model_type":"llama","torch_dtype":"bfloat16"}
    {"train_micro_batch_size_per_gpu": 2, "fp16": {"enabled": true}, "zero_optimization": {"stage": 3}}
    ```

    ## Use instead
    ```json ds_config.json model={"model_type":"llama","torch_dtype":"bfloat16"}
    {"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": true}, "zero_optimization": {"stage": 3}}
    ```

    ## Versions
    All. bf16 needs Ampere or newer; on older GPUs train in fp32 or accept the risk.

    ## References
    - microsoft/LMOps#280
    - deepspeedai/DeepSpeed#4017
    - hiyouga/LlamaFactory#2172
    """
    fp16 = unit.on("fp16.enabled" if unit.tool == "deepspeed" else "fp16")
    other = unit.on("bf16.enabled" if unit.tool == "deepspeed" else "bf16")
    if (
        fp16 is None
        or other is not None
        or (unit.tool == "deepspeed" and any(u.on("fp16") for u in job.others(*HF_FAMILY)))
    ):
        return
    model = job.model(unit)
    if model is None or model.dtype != "bfloat16":
        return
    old = job.gpu is not None and job.gpu.below(8, 0) is True
    fix = advise('train in bf16 ("bf16": {"enabled": true}, or bf16: true in the trainer) on Ampere or newer')
    yield Problem(
        fp16, f"{full(fp16)}, and the weights are bfloat16 ({model.said})", fix, severity="info" if old else None
    )
