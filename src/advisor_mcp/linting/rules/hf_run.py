"""TrainingArguments: processes, data loading, number formats and the length of a run."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import fsdp_of, full, named_before, single, zero_stage
from advisor_mcp.linting.unit import Setting, Unit

CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")


@rule("HF209", "batch-size-search-under-stage-3", tools=HF_FAMILY, harm="crash", causes=("auto-batch-zero3",))
def batch_size_search_under_stage_3(unit: Unit, job: Job) -> Found:
    """Allow batch-size-search-under-stage-3.

    ## What it does
    Finds `auto_find_batch_size: true` under ZeRO stage 3.

    ## Why is this bad?
    transformers stops: "`auto_find_batch_size` isn't supported yet with DeepSpeed Zero-3."

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 8
    auto_find_batch_size: true
    deepspeed: ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 8
    deepspeed: ds_z3_config.json
    ```

    ## Versions
    Since transformers 4.38.

    ## References
    - transformers 5.23.0, trainer.py, create_accelerator_and_postprocess
    """
    search = unit.on("auto_find_batch_size")
    if search is not None and zero_stage(unit, job) == 3:
        yield Problem(search, f"{search.shown} does not go with ZeRO stage 3", remove(search))


@rule("HF210", "reentrant-checkpointing-under-ddp", tools=HF_FAMILY, harm="crash", causes=("gc-reentrant-ddp",))
def reentrant_checkpointing_under_ddp(unit: Unit, job: Job) -> Found:
    """Allow reentrant-checkpointing-under-ddp.

    ## What it does
    Finds reentrant gradient checkpointing with `ddp_find_unused_parameters: true`.

    ## Why is this bad?
    Both mark parameters as ready in the backward pass: "Expected to mark a variable ready only once. ... Reused parameters
    in multiple reentrant backward passes."

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {"use_reentrant": true}
    ddp_find_unused_parameters: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    gradient_checkpointing: true
    gradient_checkpointing_kwargs: {"use_reentrant": false}
    ddp_find_unused_parameters: true
    ```

    ## Versions
    All. Reentrant is the default before transformers 5.

    ## References
    - huggingface/accelerate#2017
    - huggingface/peft#313
    - huggingface/transformers#23018
    - modelscope/ms-swift#2590
    """
    checkpointing, unused = unit.on(*CHECKPOINTING), unit.on("ddp_find_unused_parameters")
    if (
        checkpointing is None
        or unused is None
        or fsdp_of(unit, job)
        or used(unit, "deepspeed")
        or zero_stage(unit, job)
    ):
        return
    names = [f"{name}_kwargs.use_reentrant" for name in CHECKPOINTING]
    setting = unit.setting(*names)
    default = (
        unit.absent(*names, "gradient_checkpointing_kwargs")
        and named_before(unit, "transformers", "5.0")
        and unit.tool == "hf_trainer"
    )
    if setting is not None and unit.truth(setting.name) is True:
        yield Problem(
            setting, f"{full(setting)} and {unused.shown} cannot be used together", set_value(setting, False), (unused,)
        )
    elif default:
        yield Problem(
            unused,
            f"{unused.shown} does not go with reentrant checkpointing, the default",
            set_value(unused, False),
            (checkpointing,),
        )


@rule(
    "HF211", "sequence-and-context-parallelism", tools=(*HF_FAMILY, "accelerate"), harm="crash", causes=("cp-and-sp",)
)
def sequence_and_context_parallelism(unit: Unit, job: Job) -> Found:
    """Allow sequence-and-context-parallelism.

    ## What it does
    Finds `cp_size` and `sp_size` of a parallelism configuration both above 1, and tensor or context parallelism beside
    pure replication.

    ## Why is this bad?
    accelerate stops: "Context Parallelism (CP) and Sequence Parallelism (SP) are mutually exclusive.", "Tensor/Context
    parallelism cannot be used with pure data parallelism".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    parallelism_config: {cp_size: 2, sp_size: 2}
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    parallelism_config: {cp_size: 4}
    ```

    ## Versions
    Since accelerate 1.10.

    ## References
    - accelerate 1.15.0, parallelism_config.py, __post_init__
    """
    found = {kind: _parallel(unit, kind) for kind in ("cp", "sp", "tp", "dp_replicate", "dp_shard")}
    size = {kind: unit.number(setting.name) if setting else 1 for kind, setting in found.items()}
    if any(value is None for value in size.values()):
        return
    cp, sp, tp = found["cp"], found["sp"], found["tp"]
    if cp and sp and (size["cp"] or 1) > 1 and (size["sp"] or 1) > 1:
        yield Problem(sp, f"{full(sp)} and {full(cp)}: one of them can be above 1", set_value(sp, 1), (cp,))
    replicate = found["dp_replicate"]
    split = next((s for s in (tp, cp) if s is not None and (unit.number(s.name) or 1) > 1), None)
    if split and replicate and (size["dp_replicate"] or 1) > 1 and size["dp_shard"] == 1:
        fix = advise("set dp_shard_size above 1, or dp_replicate_size to 1")
        yield Problem(replicate, f"{full(replicate)} without sharding does not go with {full(split)}", fix, (split,))


def _parallel(unit: Unit, kind: str) -> Setting | None:
    return unit.setting(f"parallelism_config.{kind}_size", f"parallelism_config.parallelism_config_{kind}_size")


@rule("HF212", "data-loader-without-workers", tools=HF_FAMILY, harm="crash", causes=("dataloader-workers",))
def data_loader_without_workers(unit: Unit, job: Job) -> Found:
    """Allow data-loader-without-workers.

    ## What it does
    Finds `dataloader_prefetch_factor` or `dataloader_persistent_workers` while `dataloader_num_workers` is 0, the default.

    ## Why is this bad?
    Both need worker processes: "--dataloader_prefetch_factor can only be set when data is loaded in a different process",
    "persistent_workers option needs num_workers > 0".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    dataloader_prefetch_factor: 2
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    dataloader_num_workers: 4
    dataloader_prefetch_factor: 2
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, training_args.py, _validate_args
    - torch 2.13, torch/utils/data/dataloader.py, DataLoader.__init__
    """
    if not idle(unit, "dataloader_num_workers"):
        return
    for found in (single(unit, ("dataloader_prefetch_factor",)), unit.on("dataloader_persistent_workers")):
        if found is not None:
            workers = unit.setting("dataloader_num_workers")
            yield Problem(
                found,
                f"{found.shown} needs worker processes, and dataloader_num_workers is 0",
                remove(found),
                (workers,) if workers else (),
            )


@rule("HF213", "both-half-formats", tools=HF_FAMILY, harm="crash", causes=("precision-conflict",))
def both_half_formats(unit: Unit, job: Job) -> Found:
    """Allow both-half-formats.

    ## What it does
    Finds `fp16: true` and `bf16: true`, for training or for evaluation.

    ## Why is this bad?
    transformers stops: "At most one of fp16 and bf16 can be True, but not both".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    fp16: true
    bf16: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    bf16: true
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, training_args.py, _validate_args
    - hiyouga/LlamaFactory#710
    - shibing624/MedicalGPT#288
    """
    for name in ("", "_full_eval"):
        fp16, bf16 = unit.on(f"fp16{name}"), unit.on(f"bf16{name}")
        if fp16 and bf16:
            old = job.gpu is not None and job.gpu.below(8, 0)
            yield Problem(
                fp16,
                f"{fp16.shown} and {bf16.shown}: only one format can be used",
                remove(bf16 if old else fp16),
                (bf16,),
            )


@rule("HF214", "tensor-float-without-hardware", tools=HF_FAMILY, harm="crash", causes=("tf32-hw",))
def tensor_float_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow tensor-float-without-hardware.

    ## What it does
    Finds `tf32: true` on a GPU older than Ampere.

    ## Why is this bad?
    transformers stops: "--tf32 requires Ampere or a newer GPU arch, cuda>=11 and torch>=1.7".

    ## Example
    ```yaml train.yaml gpu=t4
    output_dir: out
    per_device_train_batch_size: 4
    tf32: true
    ```

    ## Use instead
    ```yaml train.yaml gpu=t4
    output_dir: out
    per_device_train_batch_size: 4
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, training_args.py, __post_init__
    """
    tf32 = unit.on("tf32")
    if tf32 is not None and job.gpu is not None and job.gpu.below(8, 0):
        yield Problem(tf32, f"{tf32.shown} needs Ampere or newer, and the GPU is {job.gpu.name}", remove(tf32))


@rule("HF215", "epochs-beside-steps", tools=HF_FAMILY, harm="ignored", severity="info", causes=("epochs-ignored",))
def epochs_beside_steps(unit: Unit, job: Job) -> Found:
    """Allow epochs-beside-steps.

    ## What it does
    Finds `num_train_epochs` beside a positive `max_steps`.

    ## Why is this bad?
    The steps win; the epochs say nothing.

    ## Example
    ```yaml train.yaml
    output_dir: out
    num_train_epochs: 3
    max_steps: 500
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    max_steps: 500
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, trainer.py, _validate_args
    """
    limit, epochs = unit.number("max_steps", -1), single(unit, ("num_train_epochs",))
    if limit and limit > 0 and epochs is not None:
        yield Problem(
            epochs, f"{epochs.shown} is ignored beside {unit['max_steps'].shown}", remove(epochs), (unit["max_steps"],)
        )
