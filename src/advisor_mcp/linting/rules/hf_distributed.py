"""TrainingArguments: FSDP, DeepSpeed and DDP, and what does not go with them."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import (
    fsdp_of,
    fsdp_version,
    full,
    named_before,
    on,
    single,
    transformers_since,
    zero_stage,
)  # fmt: skip
from advisor_mcp.linting.unit import Setting, Unit, as_truth

SHARDING = ("full_shard", "shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2")
KNOWN = (*SHARDING, "offload", "auto_wrap")
CHECKPOINTING = ("gradient_checkpointing", "activation_checkpointing")
WRAP_CLASS = (
    "fsdp_transformer_layer_cls_to_wrap",
    "fsdp_config.transformer_layer_cls_to_wrap",
    "fsdp_config.fsdp_transformer_layer_cls_to_wrap",
)


def _options(unit: Unit) -> list[str] | None:
    """The words of the `fsdp` option; None where it is not set, a switch, or not known."""
    items = unit.items("fsdp") if used(unit, "fsdp") else None
    if not items or as_truth(items[0]) is not None:
        return None
    return [str(item).lower() for item in items]


def _fsdp_setting(unit: Unit, job: Job, name: str) -> Setting | None:
    """An option of FSDP from the trainer's own `fsdp_config` or accelerate's."""
    for other in (unit, *job.others("accelerate")):
        if found := other.setting(f"fsdp_config.fsdp_{name}", f"fsdp_config.{name}"):
            return found
    return None


@rule("HF201", "fsdp-beside-deepspeed", tools=HF_FAMILY, harm="crash", causes=("fsdp-and-deepspeed",))
def fsdp_beside_deepspeed(unit: Unit, job: Job) -> Found:
    """Allow fsdp-beside-deepspeed.

    ## What it does
    Finds `fsdp` and `deepspeed` in one configuration.

    ## Why is this bad?
    Both shard the model: "Using --fsdp xxx together with --deepspeed is not possible, deactivate one of those flags."

    ## Example
    ```yaml train.yaml
    output_dir: out
    bf16: true
    fsdp: full_shard auto_wrap
    deepspeed: ds.json
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    bf16: true
    fsdp: full_shard auto_wrap
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, trainer.py, Trainer.__init__
    - axolotl-ai-cloud/axolotl#1388
    """
    fsdp, deepspeed = used(unit, "fsdp"), used(unit, "deepspeed")
    if fsdp and deepspeed:
        yield Problem(
            fsdp, f"{fsdp.shown} and {deepspeed.shown}: only one can shard the model", remove(fsdp), (deepspeed,)
        )


@rule("HF202", "impossible-fsdp-options", tools=HF_FAMILY, harm="crash", causes=("fsdp-option",))
def impossible_fsdp_options(unit: Unit, job: Job) -> Found:
    """Allow impossible-fsdp-options.

    ## What it does
    Finds words in `fsdp` that do not go together or do not exist: `offload` alone, `full_shard` with `shard_grad_op`, and,
    where FSDP2 is used, `hybrid_shard` and `no_shard`.

    ## Why is this bad?
    transformers stops: "`--fsdp offload` can't work on its own", "`--fsdp full_shard` is not compatible with `--fsdp
    shard_grad_op`", "`fsdp=hybrid_shard` is only available with FSDP1".

    ## Example
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: offload
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard offload auto_wrap
    ```

    ## Versions
    All. transformers 5 takes FSDP2 unless `fsdp_config.version` is 1.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    - transformers 5.23.0, training_args.py, _apply_legacy_fsdp_to_config
    """
    options = _options(unit)
    if not options:
        return
    setting, version = unit["fsdp"], fsdp_version(unit, job)
    unknown = [word for word in options if word not in KNOWN]
    if unknown:
        yield Problem(
            setting, f"fsdp knows no {unknown[0]!r}; it knows {', '.join(KNOWN)}", advise("use full_shard auto_wrap")
        )
    elif options == ["offload"] and not transformers_since(unit, "5.0"):
        yield Problem(setting, "fsdp: offload alone shards nothing", set_value(setting, "full_shard offload auto_wrap"))
    elif {"full_shard", "shard_grad_op"} <= set(options):
        fix = set_value(setting, " ".join(word for word in options if word != "shard_grad_op"))
        yield Problem(setting, "fsdp takes full_shard or shard_grad_op, not both", fix)
    elif version == 2 and (first := next((word for word in options if word in SHARDING[2:]), None)):
        fix = set_value(setting, " ".join("full_shard" if word == first else word for word in options))
        yield Problem(setting, f"{first} exists in FSDP1 only, and FSDP2 is used", fix)


@rule("HF203", "two-wrapping-policies", tools=HF_FAMILY, harm="crash", causes=("fsdp-wrap-both",))
def two_wrapping_policies(unit: Unit, job: Job) -> Found:
    """Allow two-wrapping-policies.

    ## What it does
    Finds FSDP told to wrap by class (`transformer_layer_cls_to_wrap`) and by size (`min_num_params`).

    ## Why is this bad?
    transformers stops: "`min_num_params` and `transformer_layer_cls_to_wrap` are mutually exclusive."

    ## Example
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard auto_wrap
    fsdp_config:
      min_num_params: 100000000
      transformer_layer_cls_to_wrap: [LlamaDecoderLayer]
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard auto_wrap
    fsdp_config:
      transformer_layer_cls_to_wrap: [LlamaDecoderLayer]
    ```

    ## Versions
    transformers 4; 5 takes the one that `auto_wrap_policy` asks for.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    """
    size = single(unit, ("fsdp_min_num_params", "fsdp_config.min_num_params", "fsdp_config.fsdp_min_num_params"))
    named = used(unit, *WRAP_CLASS)
    if (
        size
        and named
        and (unit.number(size.name) or 0) > 0
        and used(unit, "fsdp")
        and not transformers_since(unit, "5.0")
    ):
        yield Problem(size, f"{size.shown} and {named.shown} are two wrapping policies", remove(size), (named,))


@rule("HF204", "checkpointing-twice-under-fsdp", tools=HF_FAMILY, harm="crash", causes=("fsdp-checkpointing-twice",))
def checkpointing_twice_under_fsdp(unit: Unit, job: Job) -> Found:
    """Allow checkpointing-twice-under-fsdp.

    ## What it does
    Finds activation checkpointing in FSDP's configuration and in TrainingArguments.

    ## Why is this bad?
    transformers stops: "The activation_checkpointing in FSDP config and the gradient_checkpointing in training arg can't be
    set to True simultaneously."

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    gradient_checkpointing: true
    fsdp: full_shard auto_wrap
    fsdp_config:
      activation_checkpointing: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    gradient_checkpointing: false
    fsdp: full_shard auto_wrap
    fsdp_config:
      activation_checkpointing: true
    ```

    ## Versions
    All. TRL's trainers turn gradient checkpointing on by default since 0.24.

    ## References
    - transformers 5.23.0, trainer.py, create_accelerator_and_postprocess
    """
    sharded, ours = _fsdp_setting(unit, job, "activation_checkpointing"), on(unit, *CHECKPOINTING)
    if sharded is None or as_truth(sharded.value) is not True or fsdp_of(unit, job) is None:
        return
    if ours is not None:
        yield Problem(
            ours,
            f"{ours.shown} and FSDP's own activation_checkpointing are both on",
            set_value(ours, False),
            (sharded,),
        )
    elif unit.tool == "trl" and unit.absent(*CHECKPOINTING) and unit.since("0.24"):
        message = f"{full(sharded)}, and TRL turns gradient_checkpointing on by default"
        yield Problem(sharded, message, advise("set gradient_checkpointing: false in the trainer's file"))


@rule(
    "HF205",
    "trainer-checkpointing-under-fsdp",
    tools=HF_FAMILY,
    harm="slow",
    severity="warning",
    causes=("fsdp-gradient-checkpointing",),
)
def trainer_checkpointing_under_fsdp(unit: Unit, job: Job) -> Found:
    """Allow trainer-checkpointing-under-fsdp.

    ## What it does
    Finds `gradient_checkpointing: true` with FSDP that reshards after the forward pass.

    ## Why is this bad?
    The recomputation gathers each layer's weights a second time in the backward pass. FSDP's own
    `activation_checkpointing` does not; transformers warns of "a redundant AllGather operation in backward pass".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    gradient_checkpointing: true
    fsdp: full_shard auto_wrap
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard auto_wrap
    fsdp_config:
      activation_checkpointing: true
    ```

    ## Versions
    Since transformers 4.41, which warns.

    ## References
    - huggingface/transformers#30404
    - transformers 5.23.0, training_args.py, _process_fsdp_args
    """
    ours, options = on(unit, *CHECKPOINTING), _options(unit)
    inside = _fsdp_setting(unit, job, "activation_checkpointing")
    if ours is None or not options or (inside is not None and as_truth(inside.value) is not False):
        return
    if {"full_shard", "hybrid_shard"} & set(options):
        fix = advise("set activation_checkpointing: true in fsdp_config and leave gradient_checkpointing off")
        yield Problem(
            ours, f"{ours.shown} under FSDP gathers the weights again in the backward pass", fix, (unit["fsdp"],)
        )


@rule("HF206", "fsdp-without-wrapping", tools=HF_FAMILY, harm="oom", severity="warning", causes=("fsdp-no-wrap",))
def fsdp_without_wrapping(unit: Unit, job: Job) -> Found:
    """Allow fsdp-without-wrapping.

    ## What it does
    Finds FSDP1 without `auto_wrap`.

    ## Why is this bad?
    The whole model is one unit: every rank gathers all weights at once, and the memory that sharding saves is lost in
    forward and backward.

    ## Example
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard
    ```

    ## Use instead
    ```yaml train.yaml transformers=4.57.6
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard auto_wrap
    ```

    ## Versions
    transformers 4; 5 wraps the model's blocks by itself.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    """
    options = _options(unit)
    if (
        options
        and "auto_wrap" not in options
        and set(options) & set(SHARDING)
        and named_before(unit, "transformers", "5.0")
    ):
        setting = unit["fsdp"]
        fix = set_value(setting, " ".join([*options, "auto_wrap"]))
        yield Problem(setting, f"{setting.shown} has no auto_wrap: the whole model is gathered as one unit", fix)


@rule(
    "HF207",
    "fsdp-options-without-fsdp",
    tools=("hf_trainer", "trl"),
    harm="ignored",
    severity="warning",
    causes=("fsdp-options-ignored",),
)
def fsdp_options_without_fsdp(unit: Unit, job: Job) -> Found:
    """Allow fsdp-options-without-fsdp.

    ## What it does
    Finds `fsdp_config` or the class to wrap while `fsdp` itself is not set.

    ## Why is this bad?
    They are "useful only when `--fsdp` is specified": the run is not sharded and each GPU holds the whole model.

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    fsdp_config:
      activation_checkpointing: true
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 1
    fsdp: full_shard auto_wrap
    fsdp_config:
      activation_checkpointing: true
    ```

    ## Versions
    All.

    ## References
    - transformers 4.57.6, training_args.py, __post_init__
    """
    found = used(unit, "fsdp_config", "fsdp_transformer_layer_cls_to_wrap")
    if (
        found is not None
        and idle(unit, "fsdp")
        and fsdp_of(unit, job) is None
        and not job.others("accelerate", "accelerate_launch")
    ):
        yield Problem(
            found,
            f"{found.written} counts with fsdp only, which is not set",
            advise('set fsdp: "full_shard auto_wrap"'),
        )


@rule("HF208", "weights-only-checkpoints", tools=HF_FAMILY, harm="crash", causes=("save-only-model",))
def weights_only_checkpoints(unit: Unit, job: Job) -> Found:
    """Allow weights-only-checkpoints.

    ## What it does
    Finds `save_only_model: true` with DeepSpeed or FSDP where it cannot work: with `load_best_model_at_end`, or with
    FSDP's sharded checkpoints.

    ## Why is this bad?
    transformers stops: "DeepSpeed can't be used with `save_only_model` along with `load_best_model_at_end`.",
    "save_only_model option is not compatible with FSDP state dict type 'SHARDED_STATE_DICT'".

    ## Example
    ```yaml train.yaml
    output_dir: out
    eval_strategy: steps
    save_strategy: steps
    save_only_model: true
    load_best_model_at_end: true
    deepspeed: ds_z3_config.json
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    eval_strategy: steps
    save_strategy: steps
    load_best_model_at_end: true
    deepspeed: ds_z3_config.json
    ```

    ## Versions
    Since transformers 4.37.

    ## References
    - transformers 5.23.0, trainer.py, create_accelerator_and_postprocess
    """
    only, best, fsdp = on(unit, "save_only_model"), on(unit, "load_best_model_at_end"), fsdp_of(unit, job)
    engine = (
        fsdp
        or used(unit, "deepspeed")
        or next(
            (u["distributed_type"] for u in job.others("accelerate") if u.text("distributed_type") == "DEEPSPEED"), None
        )
    )
    if only is None or engine is None:
        return
    state = _fsdp_setting(unit, job, "state_dict_type")
    if best is not None:
        yield Problem(
            only,
            f"{only.shown} does not go with load_best_model_at_end under {engine.shown}",
            remove(only),
            (best, engine),
        )
    elif fsdp and state is not None and "SHARDED" in str(state.value).upper():
        yield Problem(only, f"{only.shown} does not go with FSDP's {state.shown}", remove(only), (state,))


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
    search = on(unit, "auto_find_batch_size")
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
    checkpointing, unused = on(unit, *CHECKPOINTING), on(unit, "ddp_find_unused_parameters")
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
    for found in (single(unit, ("dataloader_prefetch_factor",)), on(unit, "dataloader_persistent_workers")):
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
        fp16, bf16 = on(unit, f"fp16{name}"), on(unit, f"bf16{name}")
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
    tf32 = on(unit, "tf32")
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


@rule(
    "HF216",
    "unquoted-no",
    tools=("hf_trainer", "trl", "llamafactory", "accelerate"),
    harm="crash",
    causes=("yaml-no", "yaml-bool"),
)
def unquoted_no(unit: Unit, job: Job) -> Found:
    """Allow unquoted-no.

    ## What it does
    Finds YAML's plain `no` where the word is meant: strategies of TrainingArguments, and `mixed_precision` and
    `dynamo_backend` of accelerate.

    ## Why is this bad?
    YAML 1.1 reads `no` as false. transformers stops with "False is not a valid IntervalStrategy", accelerate with
    "'bool' object has no attribute 'lower'".

    ## Example
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_strategy: no
    ```

    ## Use instead
    ```yaml train.yaml
    output_dir: out
    per_device_train_batch_size: 4
    eval_strategy: "no"
    ```

    ## Versions
    All.

    ## References
    - YAML 1.1, boolean language-independent type
    - transformers 5.23.0, training_args.py, __post_init__
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    """
    names = (
        ("mixed_precision", "dynamo_backend")
        if unit.tool == "accelerate"
        else ("eval_strategy", "evaluation_strategy", "save_strategy", "logging_strategy")
    )
    for name in names:
        found = unit.settings.get(name)
        if found is not None and found.syntax == "yaml" and isinstance(found.value, bool):
            right = "yes" if found.value else "no"
            said = f"{found.shown} is read as {str(found.value).lower()}, not as the word"
            yield Problem(found, said, set_value(found, right, safe=not found.value))
