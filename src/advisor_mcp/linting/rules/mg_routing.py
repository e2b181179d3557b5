"""How Megatron routes tokens to experts and sends them there."""

from advisor_mcp.linting.edits import remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    add,
    find,
    flag,
    megatron_rule,
    missing,
    off,
    on,
    said,
    size,
    switch,
    text,
    whole,
)
from advisor_mcp.linting.unit import Unit

_VIRTUAL = (
    "num_layers_per_virtual_pipeline_stage",
    "num_virtual_stages_per_pipeline_rank",
    "pipeline_model_parallel_layout",
)


@megatron_rule("MG055", "expert-capacity-options", harm="crash", causes=("moe-capacity",), tools=("megatron-lm",))
def expert_capacity_options(unit: Unit, job: Job) -> Found:
    """Allow expert-capacity-options.

    ## What it does
    Checks what an expert capacity goes with: padding to the capacity needs a capacity factor, a factor needs the
    auxiliary losses or no balancing, and the flex dispatcher takes no padding with DeepEP.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-pad-expert-input-to-capacity
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 \\
      --moe-pad-expert-input-to-capacity --moe-expert-capacity-factor 1.0
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    padded, factor = switch(unit, "moe_pad_expert_input_to_capacity"), find(unit, "moe_expert_capacity_factor")
    if padded is not None and missing(unit, "moe_expert_capacity_factor"):
        yield Problem(
            padded,
            f"{padded.written} needs --moe-expert-capacity-factor",
            add(padded, "moe_expert_capacity_factor", "1.0"),
        )
    balancing = text(unit, "moe_router_load_balancing_type")
    if factor is not None and balancing == "sinkhorn":
        yield Problem(factor, f"{factor.written} cannot be used with sinkhorn balancing", remove(factor))
    if (
        padded is not None
        and text(unit, "moe_token_dispatcher_type") == "flex"
        and (unit.before("0.15") or on(unit, "moe_enable_deepep"))
    ):
        yield Problem(padded, f"{padded.written} cannot be used with the flex dispatcher", remove(padded))


@megatron_rule("MG056", "dispatcher-conflict", harm="crash", causes=("moe-dispatcher",), tools=("megatron-lm",))
def dispatcher_conflict(unit: Unit, job: Job) -> Found:
    """Allow dispatcher-conflict.

    ## What it does
    Checks options against `--moe-token-dispatcher-type`: DeepEP needs flex; overlapping the shared experts needs
    alltoall; padding for quantised experts does not take allgather.

    ## Why is this bad?
    Megatron stops at start. The default dispatcher is allgather.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-token-dispatcher-type alltoall \\
      --moe-enable-deepep
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --moe-token-dispatcher-type flex \\
      --moe-enable-deepep
    ```

    ## Versions
    All; the shared experts may also be overlapped with flex from core 0.18 on.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    named, kind = (
        find(unit, "moe_token_dispatcher_type"),
        text(unit, "moe_token_dispatcher_type", None if unit.open else "allgather"),
    )
    if kind is None:
        return
    overlap = {"alltoall", "flex"} if unit.since("0.18") else {"alltoall"}
    tables = (
        (("moe_enable_deepep",), {"flex"}),
        (("moe_shared_expert_overlap",), overlap),
        (("moe_router_padding_for_fp8", "moe_router_padding_for_quantization"), {"alltoall", "flex"}),
    )
    for names, allowed in tables:
        here = switch(unit, *names)
        if (
            here is not None
            and kind not in allowed
            and not (
                names[0] == "moe_shared_expert_overlap" and find(unit, "moe_shared_expert_intermediate_size") is None
            )
        ):
            wanted = sorted(allowed)[0]
            fix = set_value(named, wanted) if named is not None else add(here, "moe_token_dispatcher_type", wanted)
            yield Problem(
                here,
                f"{here.written} needs --moe-token-dispatcher-type {' or '.join(sorted(allowed))}, and it is {kind}",
                fix,
                (named,) if named else (),
            )


@megatron_rule("MG057", "group-limited-routing", harm="crash", causes=("moe-groups",))
def group_limited_routing(unit: Unit, job: Job) -> Found:
    """Allow group-limited-routing.

    ## What it does
    Checks `moe-router-group-topk`: it needs the number of groups, which divides the experts and is not smaller.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 60 --moe-router-num-groups 8 \\
      --moe-router-group-topk 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 64 --moe-router-num-groups 8 \\
      --moe-router-group-topk 4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here, chosen = find(unit, "moe_router_group_topk"), whole(unit, "moe_router_group_topk")
    named, groups, experts = (
        find(unit, "moe_router_num_groups"),
        whole(unit, "moe_router_num_groups"),
        whole(unit, "num_experts"),
    )
    if here is None or not chosen:
        return
    if missing(unit, "moe_router_num_groups"):
        yield Problem(here, f"{said(here)} needs {flag(unit, 'moe_router_num_groups')}")
    elif named is not None and groups and experts and experts % groups:
        yield Problem(named, f"{experts} experts cannot be put into {groups} groups of one size")
    elif groups and chosen > groups:
        yield Problem(here, f"{said(here)} is more than the {groups} groups", set_value(here, groups))


@megatron_rule(
    "MG059", "overlapped-expert-exchange", harm="crash", causes=("moe-overlap-comm",), tools=("megatron-lm",)
)
def overlapped_expert_exchange(unit: Unit, job: Job) -> Found:
    """Allow overlapped-expert-exchange.

    ## What it does
    Checks what `--overlap-moe-expert-parallel-comm` needs: expert parallelism, the alltoall or flex dispatcher, virtual
    stages in a pipeline, no full recomputation, no recomputed MoE layer, no overlapped shared experts. And that
    `--delay-wgrad-compute` comes with it.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --expert-model-parallel-size 8 \\
      --bf16 --moe-token-dispatcher-type alltoall --overlap-moe-expert-parallel-comm --recompute-granularity full \\
      --recompute-method uniform --recompute-num-layers 1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 8 --expert-model-parallel-size 8 \\
      --bf16 --moe-token-dispatcher-type alltoall --overlap-moe-expert-parallel-comm
    ```

    ## Versions
    From core 0.14 on. Versions up to 0.15 hang or crash with some dispatchers.

    ## References
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    - NVIDIA/Megatron-LM#1862
    """
    here, late = switch(unit, "overlap_moe_expert_parallel_comm"), switch(unit, "delay_wgrad_compute")
    if late is not None and off(unit, "overlap_moe_expert_parallel_comm"):
        yield Problem(late, f"{late.written} needs --overlap-moe-expert-parallel-comm", remove(late))
    if here is None:
        return
    if size(unit, "expert_model_parallel_size") == 1:
        yield Problem(here, f"{here.written} needs an expert-parallel size above 1", remove(here))
    elif (size(unit, "pipeline_model_parallel_size") or 1) > 1 and missing(unit, *_VIRTUAL):
        yield Problem(here, f"{here.written} in a pipeline needs virtual stages", remove(here))
    elif text(unit, "moe_token_dispatcher_type", "allgather" if not unit.open else None) not in (
        None,
        "alltoall",
        "flex",
    ):
        yield Problem(here, f"{here.written} needs --moe-token-dispatcher-type alltoall or flex", remove(here))
    elif text(unit, "recompute_granularity") == "full" or "moe" in (unit.items("recompute_modules") or []):
        yield Problem(here, f"{here.written} cannot be used with recomputed MoE layers", remove(here))
    elif shared := switch(unit, "moe_shared_expert_overlap"):
        yield Problem(shared, f"{shared.written} cannot be used with {here.written}", remove(shared), (here,))


@megatron_rule(
    "MG060",
    "routing-in-low-precision",
    harm="nan",
    severity="info",
    causes=("moe-router-dtype",),
    tools=("megatron-lm",),
)
def routing_in_low_precision(unit: Unit, job: Job) -> Found:
    """Allow routing-in-low-precision.

    ## What it does
    Looks for 32 experts or more without `--moe-router-dtype`.

    ## Why is this bad?
    In bf16 the scores of many experts are too close to tell apart. Megatron recommends fp32 for the router, which
    costs next to nothing.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 128 --bf16
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-experts 128 --bf16 --moe-router-dtype fp32
    ```

    ## Versions
    From core 0.12 on.

    ## References
    - Megatron-LM core_v0.13.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here, experts = find(unit, "num_experts"), whole(unit, "num_experts")
    if (
        here is not None
        and experts
        and experts >= 32
        and missing(unit, "moe_router_dtype")
        and find(unit, "train_iters", "train_samples", "bf16")
    ):
        yield Problem(
            here,
            f"{experts} experts are routed in the run's own format, where fp32 is recommended",
            add(here, "moe_router_dtype", "fp32"),
        )
