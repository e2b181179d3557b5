"""accelerate's FSDP section: what its two versions know, and which blocks it wraps."""

from __future__ import annotations

from advisor_mcp.linting.concepts import HF_FAMILY
from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import idle
from advisor_mcp.linting.rules._hf import fsdp_version, full, launched_fsdp
from advisor_mcp.linting.rules._pf import BLOCKS, block, respelled
from advisor_mcp.linting.unit import Setting, Unit, as_truth

CLASSES = ("transformer_layer_cls_to_wrap", "fsdp_transformer_layer_cls_to_wrap")
IGNORED = ("forward_prefetch", "backward_prefetch", "sharding_strategy")  # read for FSDP1 only, and meant
OBSOLETE = ("use_orig_params", "sync_module_states")  # FSDP2 always behaves so


def _option(unit: Unit, name: str) -> Setting | None:
    """An option of FSDP, with or without its prefix."""
    return unit.setting(f"fsdp_config.fsdp_{name}", f"fsdp_config.{name}")


def _text(setting: Setting | None) -> str | None:
    if setting is None or not setting.known or setting.value is None:
        return None
    return str(setting.value).lower()


@rule("AC001", "block-of-another-model", tools=("accelerate", *HF_FAMILY), harm="crash", causes=("fsdp-wrap-class",))
def block_of_another_model(unit: Unit, job: Job) -> Found:
    """Allow block-of-another-model.

    ## What it does
    Compares the class that FSDP is told to wrap with the repeated block of the model, and finds names that differ from a
    class of transformers in capitals only.

    ## Why is this bad?
    The class is looked up in the model by its exact name: "Could not find the transformer layer class LLaMADecoderLayer in
    the model."

    ## Example
    ```yaml accelerate.yaml model={"model_type":"qwen2"}
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
    ```

    ## Use instead
    ```yaml accelerate.yaml model={"model_type":"qwen2"}
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_transformer_layer_cls_to_wrap: Qwen2DecoderLayer
    ```

    ## Versions
    All. Without the option the model's own `_no_split_modules` are wrapped.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, set_auto_wrap_policy
    - tatsu-lab/stanford_alpaca#58
    - huggingface/accelerate#1943
    - hiyouga/LlamaFactory#8279
    """
    names = [*(f"fsdp_config.{name}" for name in CLASSES), CLASSES[1]]
    setting = unit.setting(*names)
    classes = [str(item).strip("'\"") for item in unit.items(setting.name) or []] if setting else []
    if setting is None or not classes:
        return
    model = job.model(unit)
    given = model.get("no_split_modules", "_no_split_modules") if model else None
    right = next(iter(given), None) if isinstance(given, list) else block(model.model_type if model else None)
    accepted = set(given) if isinstance(given, list) else {right}
    for name in classes:
        meant = respelled(name)
        if meant is not None and (right is None or name not in accepted):
            yield Problem(
                setting,
                f"{name} is no class of transformers; {meant} is",
                set_value(setting, meant, safe=len(classes) == 1),
            )
            return
    if model is None:
        yield Skipped("the model")
    elif right is not None and not accepted & set(classes) and set(classes) <= set(BLOCKS.values()):
        said = f"{', '.join(classes)} is the block of another model; that of {model.said} is {right}"
        yield Problem(setting, said, set_value(setting, right))


@rule("AC002", "options-of-fsdp1", tools=("accelerate",), harm="ignored", severity="warning", causes=("fsdp2-options",))
def options_of_fsdp1(unit: Unit, job: Job) -> Found:
    """Allow options-of-fsdp1.

    ## What it does
    Finds options that only FSDP1 reads in a file for FSDP2: prefetching, the sharding strategy and, as information,
    `fsdp_use_orig_params` and `fsdp_sync_module_states`.

    ## Why is this bad?
    They are ignored; in code `forward_prefetch` is an error: "forward_prefetch is not yet implemented in FSDP2". A hybrid
    strategy becomes a full one, for FSDP2 knows `fsdp_reshard_after_forward` only.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_reshard_after_forward: true
      fsdp_forward_prefetch: true
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_reshard_after_forward: true
    ```

    ## Versions
    FSDP2 since accelerate 1.6; `accelerate to-fsdp2` converts a file.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, FullyShardedDataParallelPlugin
    - accelerate 1.15.0, commands/to_fsdp2.py
    """
    if launched_fsdp(unit) != 2:
        return
    for name in (*IGNORED, *OBSOLETE):
        found = _option(unit, name)
        text = _text(found)
        if found is None or text in (None, "false", "no", "no_prefetch", "none"):
            continue
        harmless = name in OBSOLETE or text in ("full_shard", "1")
        yield Problem(
            found,
            f"{full(found)} is read by FSDP1 only, and fsdp_version is 2",
            remove(found),
            severity="info" if harmless else None,
        )


@rule(
    "AC003",
    "strategy-as-resharding",
    tools=("accelerate",),
    harm="crash",
    causes=("fsdp2-options", "fsdp2-reshard-value"),
)
def strategy_as_resharding(unit: Unit, job: Job) -> Found:
    """Allow strategy-as-resharding.

    ## What it does
    Finds `fsdp_reshard_after_forward` with the name of a sharding strategy under FSDP2.

    ## Why is this bad?
    FSDP2 takes true or false: "reshard_after_forward set to FULL_SHARD. This is not supported with FSDP2, please set to a
    `bool`".

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_reshard_after_forward: FULL_SHARD
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_reshard_after_forward: true
    ```

    ## Versions
    Since accelerate 1.6.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, FullyShardedDataParallelPlugin
    """
    found = _option(unit, "reshard_after_forward")
    text = _text(found)
    if launched_fsdp(unit) == 2 and found is not None and text is not None and as_truth(text) is None:
        kept = text in ("shard_grad_op", "hybrid_shard_zero2", "no_shard")
        yield Problem(found, f"{full(found)}: FSDP2 takes true or false", set_value(found, not kept))


@rule("AC004", "local-checkpoints-under-fsdp2", tools=("accelerate",), harm="crash", causes=("fsdp2-state-dict",))
def local_checkpoints_under_fsdp2(unit: Unit, job: Job) -> Found:
    """Allow local-checkpoints-under-fsdp2.

    ## What it does
    Finds `fsdp_state_dict_type: LOCAL_STATE_DICT` under FSDP2.

    ## Why is this bad?
    accelerate stops: "FSDP2 does not support LOCAL_STATE_DICT. Please set `fsdp_state_dict_type` to `SHARDED_STATE_DICT`
    or `FULL_STATE_DICT`."

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_state_dict_type: LOCAL_STATE_DICT
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_state_dict_type: SHARDED_STATE_DICT
    ```

    ## Versions
    Since accelerate 1.6.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, set_state_dict_type
    """
    found = _option(unit, "state_dict_type")
    if launched_fsdp(unit) == 2 and found is not None and _text(found) == "local_state_dict":
        yield Problem(found, f"{full(found)} does not exist in FSDP2", set_value(found, "SHARDED_STATE_DICT"))


@rule(
    "AC005",
    "weights-of-the-first-rank-only",
    tools=("accelerate", *HF_FAMILY),
    harm="wrong_result",
    causes=("fsdp-ram-efficient-sync",),
)
def weights_of_the_first_rank_only(unit: Unit, job: Job) -> Found:
    """Allow weights-of-the-first-rank-only.

    ## What it does
    Finds FSDP's `cpu_ram_efficient_loading: true` with `sync_module_states: false`.

    ## Why is this bad?
    Only the first rank reads the weights and the others must be sent them. `accelerate launch` stops: "When using
    `--fsdp_cpu_ram_efficient_loading` set `--fsdp_sync_module_states` to `True`"; older versions trained the other ranks
    from uninitialised weights.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_cpu_ram_efficient_loading: true
      fsdp_sync_module_states: false
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_cpu_ram_efficient_loading: true
      fsdp_sync_module_states: true
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    - accelerate 1.15.0, utils/dataclasses.py, FullyShardedDataParallelPlugin
    - transformers 4.57.6, training_args.py, __post_init__
    """
    loading, sync = _option(unit, "cpu_ram_efficient_loading"), _option(unit, "sync_module_states")
    if loading is None or sync is None or as_truth(loading.value) is not True or as_truth(sync.value) is not False:
        return
    if launched_fsdp(unit) if unit.tool == "accelerate" else fsdp_version(unit, job) == 1:
        yield Problem(
            sync,
            f"{full(sync)}, and {full(loading)} gives the weights to the first rank only",
            set_value(sync, True),
            (loading,),
        )


@rule("AC006", "model-in-one-unit", tools=("accelerate",), harm="oom", severity="warning", causes=("fsdp-no-wrap",))
def model_in_one_unit(unit: Unit, job: Job) -> Found:
    """Allow model-in-one-unit.

    ## What it does
    Finds FSDP that wraps nothing inside the model: `fsdp_auto_wrap_policy: NO_WRAP` or none at all, and
    `SIZE_BASED_WRAP` with `fsdp_min_num_params: 0`.

    ## Why is this bad?
    The whole model is one unit, which every rank gathers at once: the memory that sharding saves is lost in forward and
    backward.

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: NO_WRAP
      fsdp_state_dict_type: SHARDED_STATE_DICT
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_state_dict_type: SHARDED_STATE_DICT
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, set_auto_wrap_policy
    """
    if not launched_fsdp(unit) or "fsdp_config" not in unit:
        return
    policy, size = _option(unit, "auto_wrap_policy"), _option(unit, "min_num_params")
    text = _text(policy)
    if policy is None:
        place = next(iter(unit.section("fsdp_config").values()), None)
        if place is not None and unit.absent("fsdp_config.auto_wrap_policy"):
            fix = add_after(place, "fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP")
            yield Problem(
                unit["fsdp_config"], "FSDP without fsdp_auto_wrap_policy gathers the whole model as one unit", fix
            )
    elif text == "no_wrap":
        yield Problem(
            policy, f"{full(policy)} gathers the whole model as one unit", set_value(policy, "TRANSFORMER_BASED_WRAP")
        )
    elif text == "size_based_wrap" and size is not None and idle(unit, size.name):
        yield Problem(
            size,
            f"{full(size)} turns SIZE_BASED_WRAP off: the whole model is one unit",
            set_value(size, 100_000_000),
            (policy,),
        )


@rule("AC007", "offloaded-activations-alone", tools=("accelerate",), harm="crash", causes=("fsdp-ac-offload",))
def offloaded_activations_alone(unit: Unit, job: Job) -> Found:
    """Allow offloaded-activations-alone.

    ## What it does
    Finds `fsdp_activation_checkpointing_offload: true` without `fsdp_activation_checkpointing`, or under FSDP1.

    ## Why is this bad?
    accelerate stops: "`activation_checkpointing_offload=True` requires `activation_checkpointing=True`.",
    "`activation_checkpointing_offload=True` requires `fsdp_version=2`."

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_activation_checkpointing_offload: true
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
      fsdp_activation_checkpointing: true
      fsdp_activation_checkpointing_offload: true
    ```

    ## Versions
    Since accelerate 1.14.

    ## References
    - accelerate 1.15.0, utils/dataclasses.py, FullyShardedDataParallelPlugin
    """
    offload, version = _option(unit, "activation_checkpointing_offload"), launched_fsdp(unit)
    if offload is None or as_truth(offload.value) is not True or not version:
        return
    checkpointing = _option(unit, "activation_checkpointing")
    if checkpointing is None or as_truth(checkpointing.value) is False:
        fix = (
            set_value(checkpointing, True)
            if checkpointing
            else add_after(offload, "fsdp_activation_checkpointing", True)
        )
        yield Problem(offload, f"{full(offload)} needs fsdp_activation_checkpointing: true", fix)
    elif version == 1:
        yield Problem(offload, f"{full(offload)} needs fsdp_version 2", remove(offload))


@rule("AC008", "context-parallelism-without-fsdp2", tools=("accelerate",), harm="crash", causes=("cp-needs-fsdp2",))
def context_parallelism_without_fsdp2(unit: Unit, job: Job) -> Found:
    """Allow context-parallelism-without-fsdp2.

    ## What it does
    Finds a `cp_size` above 1 without FSDP2.

    ## Why is this bad?
    accelerate stops: "`cp_size > 1` specified in the `parallelism_config`, but no `fsdp_plugin` was provided", "Using
    `cp_size>1` requires FSDP2".

    ## Example
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 1
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_cp_size: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml
    distributed_type: FSDP
    num_processes: 8
    mixed_precision: bf16
    fsdp_config:
      fsdp_version: 2
      fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
    parallelism_config:
      parallelism_config_cp_size: 8
    ```

    ## Versions
    Since accelerate 1.10.

    ## References
    - accelerate 1.15.0, state.py, AcceleratorState
    """
    found = unit.setting("parallelism_config.parallelism_config_cp_size", "parallelism_config.cp_size")
    size = unit.number(found.name) if found else 1
    if found is None or not size or size <= 1 or launched_fsdp(unit) in (2, None):
        return
    version = _option(unit, "version")
    fix = set_value(version, 2) if version else advise("use distributed_type: FSDP with fsdp_version: 2")
    yield Problem(found, f"{full(found)} needs FSDP2", fix, (version,) if version else ())
