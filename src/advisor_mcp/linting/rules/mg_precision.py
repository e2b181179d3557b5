"""Megatron's number formats."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import add, excludes, find, flag, megatron_rule, off, on, said, switch, text
from advisor_mcp.linting.unit import Unit

_STATES = ("main_grads_dtype", "main_params_dtype", "exp_avg_dtype", "exp_avg_sq_dtype")


@megatron_rule("MG040", "two-number-formats", harm="crash", causes=("precision-conflict",))
def two_number_formats(unit: Unit, job: Job) -> Found:
    """Allow two-number-formats.

    ## What it does
    Looks for fp16 and bf16 together, and for fp8 and fp4 together.

    ## Why is this bad?
    A run has one format for its parameters and one for its quantised products. Megatron stops, for the first pair with
    a bare assertion.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --fp16 --bf16
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16
    ```

    ## Versions
    All; fp4 from core 0.14 on.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    yield from excludes(unit, "bf16", "fp16", "parameters have one format")
    eight, four = find(unit, "fp8_format"), find(unit, "fp4_format", "fp4")
    if (
        eight is not None
        and four is not None
        and eight.known
        and four.known
        and eight.value is not False
        and four.value is not False
    ):
        yield Problem(four, f"{said(four)} cannot be used with {said(eight)}", remove(four), (eight,))


@megatron_rule("MG041", "fp8-weights-without-fp8", harm="crash", causes=("fp8-needs-format",))
def fp8_weights_without_fp8(unit: Unit, job: Job) -> Found:
    """Allow fp8-weights-without-fp8.

    ## What it does
    Looks for `--fp8-param-gather` without `--fp8-format` (or the fp4 pair), or without the distributed optimizer or an
    FSDP that it works with.

    ## Why is this bad?
    Megatron stops: "fp8_param must be used together with fp8 mode", "--fp8-param-gather only supported with distributed
    optimizer".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --use-distributed-optimizer --fp8-param-gather
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --use-distributed-optimizer \\
      --fp8-param-gather --fp8-format hybrid
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    if unit.tool != "megatron-lm":
        return
    for gather, kind, usual in (
        ("fp8_param_gather", "fp8_format", "hybrid"),
        ("fp4_param_gather", "fp4_format", "e2m1"),
    ):
        here = switch(unit, gather)
        if here is None:
            continue
        if off(unit, kind) and find(unit, kind) is None:
            yield Problem(here, f"{here.written} needs {flag(unit, kind)}", add(here, kind, usual))
        elif gather.startswith("fp8") and all(
            off(unit, name)
            for name in ("use_distributed_optimizer", "use_torch_fsdp2", "use_megatron_fsdp", "use_custom_fsdp")
        ):
            yield Problem(
                here, f"{here.written} needs the distributed optimizer or FSDP", add(here, "use_distributed_optimizer")
            )


@megatron_rule("MG042", "fp8-recipe-conflict", harm="crash", causes=("fp8-recipe",))
def fp8_recipe_conflict(unit: Unit, job: Job) -> Found:
    """Allow fp8-recipe-conflict.

    ## What it does
    Checks options that an fp8 recipe does not take: outer layers in bf16, or recomputing `layernorm` and `moe_act`,
    with delayed scaling; fp8 weights with optimizer offloading under another recipe.

    ## Why is this bad?
    Delayed scaling keeps a history for every tensor of the whole model, which these options break. Megatron stops.
    Delayed scaling is the default recipe.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --fp8-format hybrid --fp8-recipe delayed \\
      --first-last-layers-bf16
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --fp8-format hybrid --fp8-recipe tensorwise \\
      --first-last-layers-bf16
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    """
    if find(unit, "fp8_format") is None:
        return
    recipe, named = (
        text(unit, "fp8_recipe", "delayed" if unit.tool == "megatron-lm" else None),
        find(unit, "fp8_recipe"),
    )
    outer = switch(unit, "first_last_layers_bf16")
    fix = set_value(named, "tensorwise") if named is not None else advise("set --fp8-recipe tensorwise")
    if outer is not None and recipe == "delayed":
        yield Problem(outer, f"{outer.written} cannot be used with delayed scaling", fix, (named,) if named else ())
    modules = find(unit, "recompute_modules")
    if (
        modules is not None
        and modules.known
        and recipe == "delayed"
        and text(unit, "recompute_granularity") == "selective"
    ):
        names = [name for name in ("moe_act", "layernorm") if name in str(modules.value)]
        if names:
            yield Problem(
                modules,
                f"recomputing {' and '.join(names)} cannot be used with delayed scaling",
                fix,
                (named,) if named else (),
            )
    offload = switch(unit, "optimizer_cpu_offload")
    if offload is not None and on(unit, "fp8_param_gather") and recipe not in (None, "delayed"):
        yield Problem(offload, f"{offload.written} with fp8 weights needs the recipe delayed, not {recipe}")


@megatron_rule(
    "MG043",
    "low-precision-state-without-support",
    harm="crash",
    causes=("precision-aware-optimizer",),
    tools=("megatron-lm", "megatron-bridge"),
)
def low_precision_state_without_support(unit: Unit, job: Job) -> Found:
    """Allow low-precision-state-without-support.

    ## What it does
    Looks for optimizer states, main parameters or main gradients below fp32, or optimizer offloading, without
    `--use-precision-aware-optimizer`, and for that with another optimizer than Adam.

    ## Why is this bad?
    Only the precision-aware optimizer reads these formats; without it Megatron stops: "... can only be fp32 when not
    using precision-aware optimizer".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --use-distributed-optimizer \\
      --exp-avg-dtype bf16 --exp-avg-sq-dtype bf16
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --use-distributed-optimizer \\
      --use-precision-aware-optimizer --exp-avg-dtype bf16 --exp-avg-sq-dtype bf16
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/optimizer/optimizer_config.py, __post_init__
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    aware = switch(unit, "use_precision_aware_optimizer")
    kind = find(unit, "optimizer")
    if aware is not None and kind is not None and isinstance(kind.value, str) and kind.value not in ("adam", "adamw"):
        yield Problem(aware, f"{aware.written} works with Adam, not with {kind.value}", remove(aware), (kind,))
    if not off(unit, "use_precision_aware_optimizer"):
        return
    low = [
        found
        for found in (find(unit, name) for name in _STATES)
        if found is not None and found.known and str(found.value) not in ("fp32", "float32", "torch.float32")
    ]
    here = low[0] if low else switch(unit, "optimizer_cpu_offload")
    if here is not None:
        yield Problem(
            here,
            f"{said(here)} needs {flag(unit, 'use_precision_aware_optimizer')}",
            add(here, "use_precision_aware_optimizer"),
            tuple(low[1:]),
        )


@megatron_rule(
    "MG044", "half-precision-options-in-fp32", harm="crash", causes=("half-precision-needed",), tools=("megatron-lm",)
)
def half_precision_options_in_fp32(unit: Unit, job: Job) -> Found:
    """Allow half-precision-options-in-fp32.

    ## What it does
    Looks for options that need a 16-bit run in one without: `--fp16-lm-cross-entropy` without `--fp16`,
    `--fp32-residual-connection` and `--overlap-moe-expert-parallel-comm` without `--fp16` or `--bf16`.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16 --fp16-lm-cross-entropy
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --bf16
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here = switch(unit, "fp16_lm_cross_entropy")
    if here is not None and off(unit, "fp16"):
        yield Problem(here, f"{here.written} needs --fp16", remove(here))
    for name in ("fp32_residual_connection", "overlap_moe_expert_parallel_comm"):
        here = switch(unit, name)
        if here is not None and off(unit, "fp16") and off(unit, "bf16"):
            yield Problem(here, f"{here.written} needs --bf16 or --fp16", add(here, "bf16"))


@megatron_rule(
    "MG045", "full-precision-training", harm="slow", severity="info", causes=("fp32-training",), tools=("megatron-lm",)
)
def full_precision_training(unit: Unit, job: Job) -> Found:
    """Allow full-precision-training.

    ## What it does
    Looks for a training run of several GPUs a model that names neither `--bf16` nor `--fp16`.

    ## Why is this bad?
    Megatron's default is fp32: twice the memory, and a fraction of the speed of the tensor cores.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 \\
      --micro-batch-size 1 --train-iters 1000 --lr 3e-4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 \\
      --micro-batch-size 1 --train-iters 1000 --lr 3e-4 --bf16
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    """
    trains, model = (
        find(unit, "train_iters", "train_samples"),
        find(unit, "tensor_model_parallel_size", "pipeline_model_parallel_size"),
    )
    quiet = find(unit, "bf16", "fp16", "fp8_format", "fp4_format", "use_checkpoint_args", "skip_train")
    if trains is not None and model is not None and quiet is None and off(unit, "bf16") and off(unit, "fp16"):
        yield Problem(trains, "neither --bf16 nor --fp16 is set, so that the run trains in fp32", add(trains, "bf16"))
