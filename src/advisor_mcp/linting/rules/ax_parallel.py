"""Axolotl: tensor and expert parallelism, offloading and compilation."""

from __future__ import annotations

from advisor_mcp.linting.edits import add_after, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ft import all_used, idle, used
from advisor_mcp.linting.unit import Setting, Unit

BITSANDBYTES = ("adamw_8bit", "adamw_bnb_8bit")


def fsdp_config(unit: Unit) -> Setting | None:
    """The FSDP section that is in use."""
    return used(unit, "fsdp_config")


@rule(
    "AX310",
    "tensor-parallel-restrictions",
    tools=("axolotl",),
    harm="crash",
    causes=("tp-optimizer", "tp-restrictions"),
)
def tensor_parallel_restrictions(unit: Unit, job: Job) -> Found:
    """Allow tensor-parallel-restrictions.

    ## What it does
    Finds what `tensor_parallel_size` above 1 does not go with: bitsandbytes' 8-bit optimizers, Liger's losses and RMSNorm,
    LoRA, expert parallelism, and a model whose embedding is its output layer.

    ## Why is this bad?
    "tensor_parallel_size is not supported with paged_adamw_8bit, adamw_8bit, and adamw_bnb_8bit optimizers", "Tensor
    parallelism is not compatible with liger losses.", "tensor_parallel_size > 1 with an adapter (lora/qlora) is only
    supported for native NVFP4 base models".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Meta-Llama-3-8B
    micro_batch_size: 2
    tensor_parallel_size: 2
    optimizer: adamw_bnb_8bit
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Meta-Llama-3-8B
    micro_batch_size: 2
    tensor_parallel_size: 2
    optimizer: adamw_torch_fused
    ```

    ## Versions
    axolotl 0.12 and later; LoRA and expert parallelism since 0.20.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, DistributedValidationMixin
    - axolotl 0.21.0, integrations/liger/args.py
    - axolotl 0.21.0, loaders/model.py and loaders/utils.py
    """
    size = unit.settings.get("tensor_parallel_size")
    if size is None or (unit.number("tensor_parallel_size") or 1) <= 1:
        return
    if unit.text("optimizer") in ("paged_adamw_8bit", *BITSANDBYTES):
        yield Problem(
            unit["optimizer"],
            f"{unit['optimizer'].shown} does not work with {size.shown}",
            set_value(unit["optimizer"], "adamw_torch_fused"),
            (size,),
        )
    for found in all_used(unit, ("liger_fused_linear_cross_entropy", "liger_rms_norm")):
        yield Problem(found, f"{found.written} does not work with {size.shown}", set_value(found, False), (size,))
    adapter = used(unit, "adapter")
    if adapter and unit.since("0.20"):
        yield Problem(
            size,
            f"{size.shown} with {adapter.shown} works on NVFP4 base models only",
            set_value(size, 1),
            (adapter,),
            "warning",
        )
    if (unit.number("expert_parallel_size") or 1) > 1 and unit.since("0.20"):
        yield Problem(
            size,
            f"{size.shown} does not go with expert_parallel_size",
            set_value(size, 1),
            (unit["expert_parallel_size"],),
        )
    facts = job.model(unit)
    if facts is not None and facts.get("tie_word_embeddings") is True:
        yield Problem(
            size,
            f"{size.shown} does not work with {facts.name}, whose embedding is its output layer",
            set_value(size, 1),
            (unit["base_model"],),
        )


@rule("AX311", "offloading-without-checkpointing", tools=("axolotl",), harm="crash", causes=("activation-offloading",))
def offloading_without_checkpointing(unit: Unit, job: Job) -> Found:
    """Allow offloading-without-checkpointing.

    ## What it does
    Finds `activation_offloading` or `selective_checkpointing` without `gradient_checkpointing`, and the latter with
    reentrant checkpointing.

    ## Why is this bad?
    What is moved to the CPU are the inputs that checkpointing keeps: "activation_offloading requires
    gradient_checkpointing".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    activation_offloading: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    activation_offloading: true
    gradient_checkpointing: true
    ```

    ## Versions
    axolotl 0.12 and later; `selective_checkpointing` since 0.18.

    ## References
    - axolotl 0.21.0, utils/schemas/validation.py, check_activation_offloading_wo_gc and check_selective_checkpointing
    """
    for found in all_used(unit, ("activation_offloading", "selective_checkpointing")) if unit.since("0.12") else ():
        if idle(unit, "gradient_checkpointing"):
            off = unit.settings.get("gradient_checkpointing")
            fix = set_value(off, True) if off else add_after(found, "gradient_checkpointing", True)
            yield Problem(found, f"{found.written} needs gradient_checkpointing: true", fix, (off,) if off else ())
    reentrant, selective = (
        used(unit, "gradient_checkpointing_kwargs.use_reentrant"),
        used(unit, "selective_checkpointing"),
    )
    if reentrant and selective:
        yield Problem(
            reentrant, "selective_checkpointing needs use_reentrant: false", set_value(reentrant, False), (selective,)
        )


@rule("AX312", "compile-that-does-not-fit", tools=("axolotl",), harm="crash", causes=("compile-conflict",))
def compile_that_does_not_fit(unit: Unit, job: Job) -> Found:
    """Allow compile-that-does-not-fit.

    ## What it does
    Finds `torch_compile_options` without `torch_compile`, regional compilation with gradient checkpointing, `deepcompile`
    without DeepSpeed, and, in old releases, `torch_compile` with DeepSpeed.

    ## Why is this bad?
    "torch_compile_options is set but torch_compile is not enabled", "torch_compile_regional cannot be combined with
    gradient_checkpointing", "DeepCompile is only supported with DeepSpeed", "torch_compile should be set within your
    deepspeed config file".

    ## Example
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    deepcompile: true
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: NousResearch/Llama-3.2-1B
    micro_batch_size: 2
    deepcompile: true
    deepspeed: deepspeed_configs/zero3.json
    ```

    ## Versions
    Options: axolotl 0.17 and later. Regional: 0.21. `deepcompile`: 0.12 and later. With DeepSpeed: up to 0.12.

    ## References
    - axolotl 0.21.0, utils/schemas/config.py, check_torch_compile_options_requires_compile
    - axolotl 0.21.0, utils/schemas/validation.py, check_deepcompile
    - axolotl 0.12.2, utils/schemas/validation.py, check_torch_compile_deepspeed
    """
    compiled = used(unit, "torch_compile")
    options = used(unit, "torch_compile_options")
    if options and unit.since("0.17") and idle(unit, "torch_compile"):
        yield Problem(options, "torch_compile_options needs torch_compile: true", remove(options))
    regional = used(unit, "torch_compile_regional")
    if compiled and regional and unit.since("0.21") and (recomputed := used(unit, "gradient_checkpointing")):
        yield Problem(
            regional, "torch_compile_regional does not go with gradient_checkpointing", remove(regional), (recomputed,)
        )
    if (deep := used(unit, "deepcompile")) and unit.since("0.12") and idle(unit, "deepspeed"):
        yield Problem(deep, "deepcompile is a part of DeepSpeed, and deepspeed is not set", remove(deep))
    if compiled and unit.before("0.13") and (deepspeed := used(unit, "deepspeed")):
        yield Problem(compiled, "torch_compile belongs into the DeepSpeed file", remove(compiled), (deepspeed,))


@rule("AX313", "expert-parallel-layout", tools=("axolotl",), harm="crash", causes=("expert-parallel",))
def expert_parallel_layout(unit: Unit, job: Job) -> Found:
    """Allow expert-parallel-layout.

    ## What it does
    Checks that `expert_parallel_size` above 1 runs under FSDP2 with `state_dict_type: FULL_STATE_DICT`.

    ## Why is this bad?
    Under DDP the experts' gradients, clipping and checkpoints are wrong, and a sharded checkpoint keeps one group's experts
    only, so Axolotl refuses both: "expert_parallel_size (2) > 1 requires FSDP2".

    ## Example
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen3-30B-A3B
    micro_batch_size: 1
    plugins: [axolotl.integrations.expert_parallel.ExpertParallelPlugin]
    expert_parallel_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: Qwen3MoeDecoderLayer
      state_dict_type: SHARDED_STATE_DICT
    ```

    ## Use instead
    ```yaml axolotl.yaml
    base_model: Qwen/Qwen3-30B-A3B
    micro_batch_size: 1
    plugins: [axolotl.integrations.expert_parallel.ExpertParallelPlugin]
    expert_parallel_size: 2
    fsdp_version: 2
    fsdp_config:
      transformer_layer_cls_to_wrap: Qwen3MoeDecoderLayer
      state_dict_type: FULL_STATE_DICT
    ```

    ## Versions
    axolotl 0.21.

    ## References
    - axolotl 0.21.0, integrations/expert_parallel/args.py, validate_expert_parallel_topology
    """
    size = unit.settings.get("expert_parallel_size")
    if size is None or (unit.number("expert_parallel_size") or 1) <= 1 or unit.before("0.21"):
        return
    if fsdp_config(unit) is None:
        # Without a named version the file may be for a release that ran it under DDP.
        if unit.version is not None and idle(unit, "fsdp_config"):
            yield Problem(size, f"{size.shown} needs FSDP2 (fsdp_config)")
        return
    kind = unit.setting("fsdp_config.state_dict_type", "fsdp_config.fsdp_state_dict_type")
    if kind is not None and kind.known and kind.value != "FULL_STATE_DICT":
        yield Problem(
            kind, f"{kind.shown} loses experts with {size.shown}", set_value(kind, "FULL_STATE_DICT"), (size,)
        )
