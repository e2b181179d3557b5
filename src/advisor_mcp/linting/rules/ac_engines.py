"""accelerate's configuration: the engine that it starts, and what is set for another one."""

from __future__ import annotations

from math import prod

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import used
from advisor_mcp.linting.rules._hf import full
from advisor_mcp.linting.unit import Setting, Unit

SEPARATE = (
    "deepspeed_config.zero_stage", "deepspeed_config.gradient_accumulation_steps", "deepspeed_config.gradient_clipping",
    "deepspeed_config.offload_optimizer_device", "deepspeed_config.offload_param_device",
    "deepspeed_config.offload_optimizer_nvme_path", "deepspeed_config.offload_param_nvme_path",
    "deepspeed_config.zero3_save_16bit_model", "mixed_precision",
)  # fmt: skip
SECTIONS = {"deepspeed_config": "DEEPSPEED", "fsdp_config": "FSDP", "megatron_lm_config": "MEGATRON_LM"}
MESH = ("dp_replicate", "dp_shard", "tp", "cp", "sp")


@rule(
    "AC103",
    "deepspeed-settings-in-two-places",
    tools=("accelerate",),
    harm="crash",
    causes=("accelerate-ds-file-and-keys",),
)
def deepspeed_settings_in_two_places(unit: Unit, job: Job) -> Found:
    """Allow deepspeed-settings-in-two-places.

    ## What it does
    Finds `deepspeed_config_file` beside options that belong into that file, `mixed_precision` included.

    ## Why is this bad?
    accelerate stops: "When using `deepspeed_config_file`, the following accelerate config variables will be ignored: ...
    Please specify them appropriately in the DeepSpeed config file."

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: DEEPSPEED
    deepspeed_config:
      deepspeed_config_file: ds_z3.json
      zero_stage: 3
    num_processes: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: DEEPSPEED
    deepspeed_config:
      deepspeed_config_file: ds_z3.json
      zero3_init_flag: true
    num_processes: 8
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, _deepspeed_config_checks
    """
    file = used(unit, "deepspeed_config.deepspeed_config_file")
    found = [unit[name] for name in SEPARATE if name in unit and unit[name].value is not None]
    if file is not None and found and unit.text("distributed_type") == "DEEPSPEED":
        said = f"{', '.join(setting.written for setting in found)} cannot stand beside deepspeed_config_file"
        yield Problem(found[0], said, remove(*found, why="set them in the DeepSpeed file"), (*found[1:], file))


@rule(
    "AC105",
    "section-of-another-engine",
    tools=("accelerate",),
    harm="ignored",
    severity="warning",
    causes=("accelerate-section-ignored",),
)
def section_of_another_engine(unit: Unit, job: Job) -> Found:
    """Allow section-of-another-engine.

    ## What it does
    Finds a filled `deepspeed_config`, `fsdp_config` or `megatron_lm_config` while `distributed_type` is another one.

    ## Why is this bad?
    The section is not used: the model is not sharded, and may not fit.

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    num_processes: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: FSDP
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    num_processes: 8
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, commands/launch.py, launch_command
    """
    kind = unit.text("distributed_type")
    if kind is None or kind == "MULTI_CPU" or job.others("accelerate_launch"):
        return
    for section, wanted in SECTIONS.items():
        found = used(unit, section)
        if found is not None and kind != wanted:
            setting = unit["distributed_type"]
            yield Problem(found, f"{section} is not used: {setting.shown}", set_value(setting, wanted), (setting,))


@rule(
    "AC109",
    "mesh-of-another-size",
    tools=("accelerate",),
    harm="crash",
    causes=("parallelism-product", "world-size-product"),
)
def mesh_of_another_size(unit: Unit, job: Job) -> Found:
    """Allow mesh-of-another-size.

    ## What it does
    Compares the product of the sizes in `parallelism_config` with `num_processes`.

    ## Why is this bad?
    accelerate stops: "ParallelismConfig total_size (4) does not match num_processes (8)".

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_dp_shard_size: 2
      parallelism_config_tp_size: 2
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_dp_shard_size: 4
      parallelism_config_tp_size: 2
    ```

    ## Versions
    Since accelerate 1.10. Not checked by accelerate for sequence parallelism of DeepSpeed.

    ## References
    - accelerate 1.15.0, parallelism_config.py, _validate_accelerator
    """
    if used(unit, "parallelism_config") is None:
        return
    settings = [_size(unit, kind) for kind in MESH]
    sizes = [unit.number(setting.name) if setting else 1 for setting in settings]
    world = job.world_size(unit)
    if world is None or any(size is None or size < 1 for size in sizes) or (sizes[-1] or 1) > 1:
        return
    product, set_ones = int(prod(int(size or 1) for size in sizes)), [s for s in settings if s is not None]
    if product not in (1, world) and set_ones:
        place = max(set_ones, key=lambda s: unit.number(s.name) or 0)
        said = " x ".join(f"{kind} {int(size or 1)}" for kind, size in zip(MESH, sizes, strict=True) if (size or 1) > 1)
        yield Problem(
            place,
            f"the mesh is {said} = {product}, and the job has {world} processes",
            advise(f"make the product {world}"),
            tuple(set_ones),
        )


def _size(unit: Unit, kind: str) -> Setting | None:
    return unit.setting(f"parallelism_config.parallelism_config_{kind}_size", f"parallelism_config.{kind}_size")


@rule(
    "AC110",
    "two-formats-for-deepspeed",
    tools=("accelerate_launch",),
    harm="crash",
    causes=("precision-conflict", "accelerate-ds-precision"),
)
def two_formats_for_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow two-formats-for-deepspeed.

    ## What it does
    Finds `--mixed_precision` of a launch that is not the half-precision format of the DeepSpeed file.

    ## Why is this bad?
    accelerate stops: "`--mixed_precision` arg cannot be set to `fp16` when `bf16` is set in the DeepSpeed config file."

    ## Example
    ```bash launch.sh
    accelerate launch --use_deepspeed --deepspeed_config_file ds.json --mixed_precision fp16 train.py
    ```
    ```json ds.json
    {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": true}, "zero_optimization": {"stage": 2}}
    ```

    ## Use instead
    ```bash launch.sh
    accelerate launch --use_deepspeed --deepspeed_config_file ds.json --mixed_precision bf16 train.py
    ```
    ```json ds.json
    {"train_micro_batch_size_per_gpu": "auto", "bf16": {"enabled": true}, "zero_optimization": {"stage": 2}}
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, set_mixed_precision
    """
    deepspeed, text = job.other("deepspeed"), unit.text("mixed_precision")
    if deepspeed is None or text not in ("fp16", "bf16") or not used(unit, "use_deepspeed", "deepspeed_config_file"):
        return
    other = "bf16" if text == "fp16" else "fp16"
    enabled = deepspeed.on(f"{other}.enabled")
    if enabled is not None:
        setting = unit["mixed_precision"]
        yield Problem(
            setting,
            f"{setting.shown}, and the DeepSpeed file has {full(enabled)}",
            set_value(setting, other),
            (enabled,),
        )
