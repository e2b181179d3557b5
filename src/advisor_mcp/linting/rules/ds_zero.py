"""DeepSpeed's ZeRO section: what a stage can do, offloading, and what is left of the weights afterwards."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import full, integrated, named_since, trainer_of, zero_stage
from advisor_mcp.linting.unit import Setting, Unit

ZERO = "zero_optimization"
PLACES = ("deepspeed", "accelerate")
LEAF_TYPES = ("mixtral", "qwen2_moe", "qwen3_moe")  # whose blocks are ZeRO-3 leaves by default


def _device(unit: Unit, kind: str) -> Setting | None:
    """The setting that offloads optimizer or parameters to the processor or a disk."""
    name = f"deepspeed_config.{kind}_device" if unit.tool == "accelerate" else f"{ZERO}.{kind}.device"
    return unit[name] if unit.text(name) in ("cpu", "nvme") else None


def _stage_key(unit: Unit) -> Setting | None:
    return unit.setting("deepspeed_config.zero_stage", f"{ZERO}.stage")


def _also(*settings: Setting | None) -> tuple[Setting, ...]:
    return tuple(setting for setting in settings if setting is not None)


@rule(
    "DS101",
    "parameter-offload-without-stage-3",
    tools=PLACES,
    harm="ignored",
    severity="warning",
    causes=("offload-param-needs-z3",),
)
def parameter_offload_without_stage_3(unit: Unit, job: Job) -> Found:
    """Allow parameter-offload-without-stage-3.

    ## What it does
    Finds `offload_param` (in accelerate's file `offload_param_device`) under a ZeRO stage below 3.

    ## Why is this bad?
    Only stage 3 partitions parameters, so nothing is offloaded and they stay on the GPU; nobody says so.

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}
    ```

    ## Versions
    All.

    ## References
    - https://www.deepspeed.ai/docs/config-json/#parameter-offloading
    - deepspeed 0.19.8, deepspeed/runtime/zero/config.py, offload_param
    """
    device, stage = _device(unit, "offload_param"), zero_stage(unit, job)
    if device is None or stage is None or stage >= 3:
        return
    key = _stage_key(unit)
    fix = set_value(key, 3, why="or remove the parameter offload") if key else None
    yield Problem(
        unit.settings.get(device.name.rpartition(".")[0], device),
        f"{full(device)} does nothing under ZeRO stage {stage}; parameters are offloaded by stage 3 only",
        fix,
        _also(key),
    )


@rule("DS102", "partial-offload-without-stage-3", tools=("deepspeed",), harm="crash", causes=("offload-ratio-z3",))
def partial_offload_without_stage_3(unit: Unit, job: Job) -> Found:
    """Allow partial-offload-without-stage-3.

    ## What it does
    Finds an `offload_optimizer.ratio` below 1 under a ZeRO stage below 3.

    ## Why is this bad?
    DeepSpeed refuses it: "Partial offloading only supported for ZeRO Stage 3."

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.3}}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.3}}}
    ```

    ## Versions
    Since deepspeed 0.12, which brought Twin-Flow.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/zero/config.py, offload_ratio_check
    - deepspeedai/DeepSpeed#4636
    """
    name = f"{ZERO}.offload_optimizer.ratio"
    ratio, stage = unit.number(name, 1), zero_stage(unit, job)
    if ratio is None or ratio >= 1 or stage is None or stage >= 3:
        return
    key = _stage_key(unit)
    fix = set_value(key, 3) if key else remove(unit[name])
    yield Problem(
        unit[name], f"an offload ratio of {ratio:g} needs ZeRO stage 3, and the stage is {stage}", fix, _also(key)
    )


@rule("DS103", "nvme-without-path", tools=PLACES, harm="crash", causes=("nvme-path",))
def nvme_without_path(unit: Unit, job: Job) -> Found:
    """Allow nvme-without-path.

    ## What it does
    Finds offloading to `nvme` without an `nvme_path`.

    ## Why is this bad?
    DeepSpeed builds the folder of its swap files from the path and fails on None while it sets up; accelerate passes a
    folder called "none".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/local_nvme"}}
    }
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/swap_tensor/partitioned_param_swapper.py
    - accelerate 1.15.0, utils/dataclasses.py, DeepSpeedPlugin
    """
    for kind in ("offload_param", "offload_optimizer"):
        device = _device(unit, kind)
        path = f"deepspeed_config.{kind}_nvme_path" if unit.tool == "accelerate" else f"{ZERO}.{kind}.nvme_path"
        if device is None or unit.text(device.name) != "nvme" or not idle(unit, path):
            continue
        fix = (
            set_value(unit[path], "/local_nvme")
            if path in unit
            else add_after(device, path.rsplit(".", 1)[1], "/local_nvme")
        )
        yield Problem(device, f"{full(device)} has no {path.rsplit('.', 1)[1]}, the folder of the swap files", fix)


@rule(
    "DS104",
    "nvme-optimizer-without-stage-3",
    tools=PLACES,
    harm="ignored",
    severity="warning",
    causes=("nvme-needs-z3",),
)
def nvme_optimizer_without_stage_3(unit: Unit, job: Job) -> Found:
    """Allow nvme-optimizer-without-stage-3.

    ## What it does
    Finds `offload_optimizer` to `nvme` under a ZeRO stage of 1 or 2.

    ## Why is this bad?
    Only stage 3 swaps to a disk; below it the optimizer goes to host memory, which it may not fit.

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme", "nvme_path": "/local_nvme"}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "/local_nvme"}}
    }
    ```

    ## Versions
    All.

    ## References
    - https://www.deepspeed.ai/docs/config-json/#optimizer-offloading
    """
    device, stage, key = _device(unit, "offload_optimizer"), zero_stage(unit, job), _stage_key(unit)
    if device is not None and unit.text(device.name) == "nvme" and stage in (1, 2):
        fix = set_value(key, 3) if key else set_value(device, "cpu")
        yield Problem(
            device,
            f"{full(device)} needs ZeRO stage 3; under stage {stage} the optimizer stays in host memory",
            fix,
            _also(key),
        )


@rule("DS105", "optimizer-offload-without-zero", tools=("deepspeed",), harm="crash", causes=("offload-without-zero",))
def optimizer_offload_without_zero(unit: Unit, job: Job) -> Found:
    """Allow optimizer-offload-without-zero.

    ## What it does
    Finds `offload_optimizer` while the ZeRO stage is 0.

    ## Why is this bad?
    DeepSpeed builds its processor-side Adam but nothing moves the parameters there: "CPUAdam param is on cuda:0 and must
    be 'cpu'". With the trainer's own optimizer nothing is offloaded at all.

    ## Example
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}},
      "zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}
    }
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": 1,
      "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}},
      "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    }
    ```

    ## Versions
    All.

    ## References
    - https://www.deepspeed.ai/docs/config-json/#optimizer-offloading
    - deepspeed 0.19.8, deepspeed/runtime/engine.py, zero_use_cpu_optimizer
    """
    device, key = _device(unit, "offload_optimizer"), _stage_key(unit)
    if device is not None and zero_stage(unit, job) == 0:
        fix = set_value(key, 2) if key else add_after(unit[f"{ZERO}.offload_optimizer"], "stage", 2)
        yield Problem(device, f"{full(device)} needs ZeRO stage 1, 2 or 3, and the stage is 0", fix, _also(key))


@rule(
    "DS106",
    "zero-plus-plus-without-stage-3",
    tools=("deepspeed",),
    harm="ignored",
    severity="warning",
    causes=("zeropp-needs-z3",),
)
def zero_plus_plus_without_stage_3(unit: Unit, job: Job) -> Found:
    """Allow zero-plus-plus-without-stage-3.

    ## What it does
    Finds ZeRO++ and MiCS options (`zero_hpz_partition_size`, `zero_quantized_weights`, `zero_quantized_gradients`,
    `zero_quantized_nontrainable_weights`, `mics_shard_size`) under a ZeRO stage below 3.

    ## Why is this bad?
    They change how stage 3 gathers parameters and do nothing elsewhere.

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2, "zero_quantized_weights": true}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "zero_quantized_weights": true}}
    ```

    ## Versions
    Since deepspeed 0.10.

    ## References
    - https://www.deepspeed.ai/tutorials/zeropp/
    - deepspeed 0.19.8, deepspeed/runtime/zero/config.py
    """
    stage = zero_stage(unit, job)
    if stage is None or stage >= 3:
        return
    switches = [
        unit.on(f"{ZERO}.{name}")
        for name in ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights")
    ]
    for name in ("zero_hpz_partition_size", "mics_shard_size"):
        if (unit.number(f"{ZERO}.{name}", 0) or 0) > 1:
            switches.append(unit[f"{ZERO}.{name}"])
    key = _stage_key(unit)
    for found in _also(*switches):
        fix = set_value(key, 3, why="or remove it") if key else remove(found)
        yield Problem(found, f"{full(found)} works with ZeRO stage 3 only, and the stage is {stage}", fix, _also(key))


@rule("DS107", "ungathered-weights-on-save", tools=PLACES, harm="lost_work", severity="warning", causes=("zero3-save",))
def ungathered_weights_on_save(unit: Unit, job: Job) -> Found:
    """Allow ungathered-weights-on-save.

    ## What it does
    Finds ZeRO stage 3 under transformers or accelerate without `stage3_gather_16bit_weights_on_model_save: true`
    (in accelerate's file `zero3_save_16bit_model: true`).

    ## Why is this bad?
    Each rank holds a part of the weights. Without gathering, the saved model has no weights or files of a few hundred
    kilobytes: transformers saves a sharded DeepSpeed checkpoint that `zero_to_fp32.py` must convert, accelerate stops
    with "Cannot get 16bit model weights".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 3}}
    ```

    ## Use instead
    ```json ds_config.json
    {
      "train_micro_batch_size_per_gpu": "auto",
      "bf16": {"enabled": "auto"},
      "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": true}
    }
    ```

    ## Versions
    All. Code that calls `save_checkpoint` itself needs no gathering.

    ## References
    - huggingface/transformers#25817
    - huggingface/transformers#34524
    - hiyouga/LlamaFactory#253
    - accelerate 1.15.0, accelerator.py, get_state_dict
    """
    key = _stage_key(unit)
    if zero_stage(unit, job) != 3 or key is None:
        return
    if unit.tool == "accelerate":
        names: tuple[str, ...] = ("deepspeed_config.zero3_save_16bit_model",)
    else:
        names = tuple(
            f"{ZERO}.{name}"
            for name in (
                "stage3_gather_16bit_weights_on_model_save",
                "gather_16bit_weights_on_model_save",
                "stage3_gather_fp16_weights_on_model_save",
            )
        )
        if not integrated(unit, job):
            return
    trainer = trainer_of(unit, job)
    if trainer is not None and trainer.text("save_strategy") in ("no", "false"):
        return
    found = unit.setting(*names)
    if found is None and unit.absent(*names):
        fix = add_after(key, names[0].rsplit(".", 1)[1], True)
        yield Problem(
            key,
            f"ZeRO stage 3 without {names[0].rsplit('.', 1)[1]}: saving the model leaves its weights in shards",
            fix,
        )
    elif found is not None and unit.truth(found.name) is False:
        yield Problem(
            found,
            f"{full(found)}: saving the model under ZeRO stage 3 leaves its weights in shards",
            set_value(found, True),
            (key,),
        )


@rule(
    "DS108", "routed-experts-under-stage-3", tools=PLACES, harm="hang", severity="warning", causes=("zero3-moe-leaf",)
)
def routed_experts_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow routed-experts-under-stage-3.

    ## What it does
    Finds ZeRO stage 3 with a mixture-of-experts model whose expert blocks are not named as leaf modules
    (`zero_optimization.leaf_module`, or accelerate's `deepspeed_moe_layer_cls_names`).

    ## Why is this bad?
    Stage 3 gathers a module's parameters when it runs. Ranks that route tokens to different experts then wait for each
    other in different collectives, and training hangs in its first steps.

    ## Example
    ```json ds_config.json model={"model_type":"deepseek_v3","n_routed_experts":256}
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    ```

    ## Use instead
    ```json ds_config.json model={"model_type":"deepseek_v3","n_routed_experts":256}
    {
      "train_micro_batch_size_per_gpu": 1,
      "zero_optimization": {"stage": 3, "leaf_module": {"classes": ["DeepseekV3MoE"]}}
    }
    ```

    ## Versions
    All. deepspeed 0.18.1 treats the blocks of Mixtral, Qwen2-MoE and Qwen3-MoE as leaves by itself; older versions need
    `set_z3_leaf_modules` in the code. transformers 5 holds the experts of a layer in one parameter.

    ## References
    - deepspeedai/DeepSpeed#7461
    - deepspeedai/DeepSpeed#4966
    - deepspeedai/DeepSpeed#5008
    - deepspeed 0.19.8, deepspeed/runtime/zero/leaf_module_config.py
    """
    key = _stage_key(unit)
    if (
        zero_stage(unit, job) != 3
        or key is None
        or unit.setting(f"{ZERO}.leaf_module", "deepspeed_config.deepspeed_moe_layer_cls_names")
    ):
        return
    if any(
        other.setting("deepspeed_moe_layer_cls_names", "deepspeed_config.deepspeed_moe_layer_cls_names")
        for other in job.units
    ):
        return
    model = job.model(unit)
    if model is None:
        yield Skipped("the model")
        return
    handled = model.model_type in LEAF_TYPES and named_since(unit, "deepspeed", "0.18.1")
    if model.experts and model.experts > 1 and not handled and not named_since(unit, "transformers", "5.0"):
        advice = advise(
            'name the block of the experts: "leaf_module": {"classes": [...]} (deepspeed 0.18.1; before it set_z3_leaf_modules '
            "in the code, or accelerate's deepspeed_moe_layer_cls_names), or use ZeRO stage 2"
        )
        yield Problem(
            key, f"ZeRO stage 3 on {model.experts} routed experts ({model.said}) without leaf modules can hang", advice
        )


@rule("DS109", "zero-under-pipeline-parallelism", tools=("deepspeed",), harm="crash", causes=("zero-pipeline",))
def zero_under_pipeline_parallelism(unit: Unit, job: Job) -> Found:
    """Allow zero-under-pipeline-parallelism.

    ## What it does
    Finds ZeRO stage 2 or 3 with pipeline parallelism: `pipeline.stages`, or a Megatron-DeepSpeed launch beside the file
    with more than one pipeline stage.

    ## Why is this bad?
    The pipeline engine refuses to start: "ZeRO-2 and ZeRO-3 are incompatible with pipeline parallelism".

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 2}, "pipeline": {"stages": 4}}
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 1}, "pipeline": {"stages": 4}}
    ```

    ## Versions
    All.

    ## References
    - deepspeed 0.19.8, deepspeed/runtime/pipe/engine.py, PipelineEngine.__init__
    """
    key, stage = _stage_key(unit), zero_stage(unit, job)
    if key is None or stage not in (2, 3):
        return
    pipeline = unit["pipeline.stages"] if (unit.number("pipeline.stages", 1) or 1) > 1 else None
    for other in job.others("megatron-lm"):
        if (
            (other.size("pipeline_parallel") or 1) > 1
            and used(other, "deepspeed")
            and not used(other, "no_pipeline_parallel")
        ):
            pipeline = other.named("pipeline_parallel")
    if pipeline is not None:
        yield Problem(
            key,
            f"ZeRO stage {stage} does not go with pipeline parallelism ({full(pipeline)})",
            set_value(key, 1),
            (pipeline,),
        )


@rule("DS110", "missing-zero-section", tools=("deepspeed",), harm="crash", causes=("zero-section-missing",))
def missing_zero_section(unit: Unit, job: Job) -> Found:
    """Allow missing-zero-section.

    ## What it does
    Finds a DeepSpeed file without `zero_optimization` that a trainer or accelerate reads.

    ## Why is this bad?
    accelerate, which transformers uses too, stops: "Please specify the ZeRO optimization config in the DeepSpeed config."

    ## Example
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    per_device_train_batch_size: 1
    bf16: true
    ```

    ## Use instead
    ```json ds_config.json
    {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": "auto"}, "zero_optimization": {"stage": 0}}
    ```
    ```yaml train.yaml
    output_dir: out
    deepspeed: ds_config.json
    per_device_train_batch_size: 1
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, DeepSpeedPlugin.__post_init__
    """
    near = [setting for name in unit.settings if "zero" in name.lower() and "." not in name and (setting := unit[name])]
    if (
        unit.absent(ZERO)
        and not near
        and integrated(unit, job)
        and (unit.launcher or job.others("accelerate") or trainer_of(unit, job))
    ):
        first = next(iter(unit.settings.values()), None)
        fix = (
            add_after(first, ZERO, {"stage": 0})
            if first is not None and unit.tree is not None and unit.tree.flow
            else None
        )
        yield Problem(
            unit,
            "the file has no zero_optimization section, which accelerate and transformers require",
            fix or advise("add zero_optimization with a stage"),
        )
