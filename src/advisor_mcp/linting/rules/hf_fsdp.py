"""TrainingArguments: FSDP and what does not go with it."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.rules._hf import (
    accelerated,
    fsdp_of,
    fsdp_version,
    full,
    named_before,
    single,
    transformers_since,
)
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
    for other in (unit, *accelerated(unit, job, "accelerate")):
        if found := other.setting(f"fsdp_config.fsdp_{name}", f"fsdp_config.{name}"):
            return found
    return None


@rule("HF201", "two-sharding-engines", tools=HF_FAMILY, harm="crash", causes=("fsdp-and-deepspeed",))
def two_sharding_engines(unit: Unit, job: Job) -> Found:
    """Allow two-sharding-engines.

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
    sharded, ours = _fsdp_setting(unit, job, "activation_checkpointing"), unit.on(*CHECKPOINTING)
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
    ours, options = unit.on(*CHECKPOINTING), _options(unit)
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
    if found is not None and idle(unit, "fsdp") and fsdp_of(unit, job) is None and not accelerated(unit, job):
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
    only, best, fsdp = unit.on("save_only_model"), unit.on("load_best_model_at_end"), fsdp_of(unit, job)
    engine = (
        fsdp
        or used(unit, "deepspeed")
        or next(
            (
                u["distributed_type"]
                for u in accelerated(unit, job, "accelerate")
                if u.text("distributed_type") == "DEEPSPEED"
            ),
            None,
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
