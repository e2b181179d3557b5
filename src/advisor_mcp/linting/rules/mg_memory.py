"""What Megatron saves, computes again or moves to the host."""

from advisor_mcp.linting.edits import advise, both, remove
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import (
    add,
    find,
    megatron_rule,
    missing,
    moved,
    number,
    off,
    on,
    said,
    size,
    switch,
    text,
    whole,
)
from advisor_mcp.linting.unit import Unit

_MODULES = {"core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe"}
_LATER = {"shared_experts", "gdn_norm_out", "gdp_in_proj", "gdp_qkv", "mhc"}


@megatron_rule(
    "MG070", "offloading-with-recomputation", harm="crash", causes=("flash-recompute-offload", "cpu-offload-conflict")
)
def offloading_with_recomputation(unit: Unit, job: Job) -> Found:
    """Allow offloading-with-recomputation.

    ## What it does
    Looks for activations that are moved to the host (`--cpu-offloading-num-layers`) beside recomputation, a pipeline or
    CUDA graphs, and for as many offloaded layers as there are.

    ## Why is this bad?
    The hooks that move activations do not see those that are computed again. Megatron stops: "CPU offloading does not
    work when activation recomputation is enabled".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cpu-offloading-num-layers 4 \\
      --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cpu-offloading-num-layers 4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here, count, layers = (
        find(unit, "cpu_offloading_num_layers"),
        whole(unit, "cpu_offloading_num_layers"),
        whole(unit, "num_layers"),
    )
    if here is None or not count:
        return
    again, pipeline = (
        find(unit, "recompute_granularity", "recompute_activations"),
        find(unit, "pipeline_model_parallel_size"),
    )
    if again is not None and again.value not in (False, "false"):
        yield Problem(here, f"{said(here)} cannot be used with {said(again)}", remove(here), (again,))
    elif pipeline is not None and (size(unit, "pipeline_model_parallel_size") or 1) > 1:
        yield Problem(here, f"{said(here)} cannot be used with {said(pipeline)}", remove(here), (pipeline,))
    elif layers is not None and count >= layers:
        yield Problem(here, f"{said(here)} must be less than the {layers} layers")
    elif (graph := switch(unit, "enable_cuda_graph", "external_cuda_graph")) is not None:
        yield Problem(here, f"{said(here)} cannot be used with {graph.written}", remove(here), (graph,))


@megatron_rule(
    "MG071",
    "incomplete-recomputation",
    harm="crash",
    causes=("recompute-args",),
    tools=("megatron-lm", "megatron-bridge"),
)
def incomplete_recomputation(unit: Unit, job: Job) -> Found:
    """Allow incomplete-recomputation.

    ## What it does
    Checks the recomputation options against each other: `full` needs a method and a number of layers, `selective` takes
    neither, and a method or number alone does nothing.

    ## Why is this bad?
    Megatron stops while it builds the model. A method without a granularity is not noticed: nothing is recomputed.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --recompute-granularity full
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --recompute-granularity full --recompute-method uniform \\
      --recompute-num-layers 1
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "recompute_granularity"), text(unit, "recompute_granularity")
    method, layers = find(unit, "recompute_method"), find(unit, "recompute_num_layers")
    selective = here if kind == "selective" else switch(unit, "recompute_activations")
    if here is not None and kind == "full":
        lacking = [name for name in ("recompute_method", "recompute_num_layers") if missing(unit, name)]
        if lacking:
            fix = both(*(add(here, name, "uniform" if name == "recompute_method" else 1) for name in lacking))
            names = " and ".join("--" + name.replace("_", "-") for name in lacking)
            yield Problem(here, f"{said(here)} needs {names}", fix)
    elif selective is not None and (extra := method or layers) is not None:
        also = [one for one in (method, layers) if one is not None]
        yield Problem(extra, f"{said(extra)} cannot be used with selective recomputation", moved(*also), (selective,))
    elif here is None and method is not None and missing(unit, "recompute_granularity", "recompute_activations"):
        fix = add(method, "recompute_granularity", "full")
        yield Problem(method, f"{said(method)} does nothing without --recompute-granularity", fix, severity="warning")


@megatron_rule(
    "MG072",
    "modules-that-cannot-be-recomputed",
    harm="crash",
    causes=("recompute-modules",),
    tools=("megatron-lm", "megatron-bridge"),
)
def modules_that_cannot_be_recomputed(unit: Unit, job: Job) -> Found:
    """Allow modules-that-cannot-be-recomputed.

    ## What it does
    Checks the names in `--recompute-modules`, what they need (`moe_act` grouped products, `mla_up_proj` latent
    attention, `shared_experts` no overlap), and that they go with selective recomputation.

    ## Why is this bad?
    Megatron stops for a wrong name; with another granularity the list is not used.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --recompute-granularity selective \\
      --recompute-modules attention
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --recompute-granularity selective \\
      --recompute-modules core_attn
    ```

    ## Versions
    From core 0.12 on; later versions know further modules.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here = find(unit, "recompute_modules")
    if here is None or not here.known:
        return
    names = [str(name) for name in unit.items(here.name) or []]
    wrong = [name for name in names if name not in _MODULES | (_LATER if unit.since("0.15") else set())]
    full = text(unit, "recompute_granularity") == "full"
    if wrong:
        yield Problem(
            here, f"{', '.join(wrong)} is no module that can be recomputed; there are {', '.join(sorted(_MODULES))}"
        )
    elif "moe_act" in names and off(unit, "moe_grouped_gemm"):
        yield Problem(
            here,
            "recomputing moe_act needs --moe-grouped-gemm",
            add(here, "moe_grouped_gemm") if unit.tool == "megatron-lm" else None,
        )
    elif "mla_up_proj" in names and off(unit, "multi_latent_attention"):
        yield Problem(here, "recomputing mla_up_proj needs multi-latent attention")
    elif "shared_experts" in names and (overlap := switch(unit, "moe_shared_expert_overlap")) is not None:
        yield Problem(here, f"shared experts cannot be recomputed with {overlap.written}", remove(overlap), (overlap,))
    elif full:
        yield Problem(here, f"{here.written} is only used with selective recomputation", remove(here), severity="info")


@megatron_rule(
    "MG073",
    "saved-activations-that-cannot-be-spread",
    harm="crash",
    causes=("distribute-saved-activations",),
    tools=("megatron-lm",),
)
def saved_activations_that_cannot_be_spread(unit: Unit, job: Job) -> Found:
    """Allow saved-activations-that-cannot-be-spread.

    ## What it does
    Checks `--distribute-saved-activations`: it needs tensor parallelism and full recomputation, and no sequence
    parallelism.

    ## Why is this bad?
    Megatron stops at start. Sequence parallelism spreads the same activations already.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 \\
      --sequence-parallel --recompute-granularity full --recompute-method uniform --recompute-num-layers 1 \\
      --distribute-saved-activations
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 2 \\
      --sequence-parallel --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    here = switch(unit, "distribute_saved_activations")
    if here is None:
        return
    if size(unit, "tensor_model_parallel_size") == 1:
        yield Problem(here, f"{here.written} needs tensor parallelism", remove(here))
    elif (sequence := switch(unit, "sequence_parallel")) is not None:
        yield Problem(here, f"{here.written} cannot be used with {sequence.written}", remove(here), (sequence,))
    elif text(unit, "recompute_granularity", None if unit.open else "") not in (None, "full"):
        yield Problem(here, f"{here.written} needs --recompute-granularity full", remove(here))


@megatron_rule(
    "MG074",
    "cuda-graph-conflict",
    harm="crash",
    causes=("cuda-graph-conflict",),
    tools=("megatron-lm", "megatron-bridge"),
)
def cuda_graph_conflict(unit: Unit, job: Job) -> Found:
    """Allow cuda-graph-conflict.

    ## What it does
    Checks CUDA graphs against what they cannot hold: full recomputation, moved activations, NaN checks on a graph of
    the whole iteration, two ways of asking for them.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cuda-graph-impl local --recompute-granularity full \\
      --recompute-method uniform --recompute-num-layers 1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cuda-graph-impl local
    ```

    ## Versions
    `--cuda-graph-impl` from core 0.15 on; before that any recomputation was refused with `--enable-cuda-graph`.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.12.0 to core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    named, kind = find(unit, "cuda_graph_impl"), text(unit, "cuda_graph_impl", "none")
    old = switch(unit, "enable_cuda_graph", "external_cuda_graph")
    again = find(unit, "recompute_granularity")
    here = named if named is not None and kind not in (None, "none") else old
    if here is None:
        return
    if here is named and old is not None:
        yield Problem(old, f"{old.written} cannot be used with {said(named)}", remove(old), (named,))
    elif (
        again is not None
        and (text(unit, "recompute_granularity") == "full" or (old is not None and unit.before("0.15")))
        and kind != "full_iteration"
    ):
        yield Problem(here, f"{said(here)} cannot be used with {said(again)}", remove(here), (again,))
    elif (
        kind == "full_iteration"
        and off(unit, "no_check_for_nan_in_loss_and_grad")
        and unit.tool == "megatron-lm"
        and unit.since("0.18")
    ):
        yield Problem(
            here,
            f"{said(here)} needs --no-check-for-nan-in-loss-and-grad",
            add(here, "no_check_for_nan_in_loss_and_grad"),
        )


@megatron_rule(
    "MG075", "graphs-with-expandable-segments", harm="crash", causes=("alloc-conf-cuda-graph",), tools=("megatron-lm",)
)
def graphs_with_expandable_segments(unit: Unit, job: Job) -> Found:
    """Allow graphs-with-expandable-segments.

    ## What it does
    Looks for Transformer Engine's CUDA graphs, or NCCL user buffers, with `expandable_segments:True` in the allocator's
    settings.

    ## Why is this bad?
    NCCL registers the buffers of a graph, which cannot be done for expandable segments: an illegal memory access.
    Megatron stops unless `NCCL_GRAPH_REGISTER=0`; `--nccl-ub` is refused until torch 2.11.

    ## Example
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cuda-graph-impl transformer_engine
    ```

    ## Use instead
    ```bash launch.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    export NCCL_GRAPH_REGISTER=0
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --cuda-graph-impl transformer_engine
    ```

    ## Versions
    From core 0.16 on.

    ## References
    - Megatron-LM core_v0.16.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/distributed/distributed_data_parallel_config.py, __post_init__
    """
    held = unit.env.get("PYTORCH_CUDA_ALLOC_CONF")
    if held is None or "expandable_segments:True" not in str(held.value):
        return
    register, torch = unit.env.get("NCCL_GRAPH_REGISTER"), unit.package("torch")
    graph, buffers = find(unit, "cuda_graph_impl"), switch(unit, "nccl_ub")
    if (
        graph is not None
        and graph.value == "transformer_engine"
        and unit.since("0.16")
        and (register is None or str(register.value) == "1")
    ):
        yield Problem(
            held,
            f"{said(graph)} with expandable segments needs NCCL_GRAPH_REGISTER=0",
            advise("export NCCL_GRAPH_REGISTER=0"),
            (graph,),
        )
    elif buffers is not None and torch is not None and torch < (2, 11):
        yield Problem(
            held,
            f"{buffers.written} cannot be used with expandable segments before torch 2.11",
            remove(held),
            (buffers,),
        )


@megatron_rule(
    "MG076", "more-recomputed-layers-than-a-stage-has", harm="unintended", severity="info", causes=("recompute-layers",)
)
def more_recomputed_layers_than_a_stage_has(unit: Unit, job: Job) -> Found:
    """Allow more-recomputed-layers-than-a-stage-has.

    ## What it does
    Compares the recomputed layers of the `block` method with the layers of a pipeline stage.

    ## Why is this bad?
    Every layer is recomputed, which `uniform` with one layer does with less memory for what is kept between them.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 4 \\
      --recompute-granularity full --recompute-method block --recompute-num-layers 32
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 4 \\
      --recompute-granularity full --recompute-method block --recompute-num-layers 4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, --recompute-num-layers
    """
    here, count = find(unit, "recompute_num_layers"), number(unit, "recompute_num_layers")
    layers, pipeline = whole(unit, "num_layers"), size(unit, "pipeline_model_parallel_size")
    if here is None or not count or not layers or not pipeline or pipeline == 1 or on(unit, "no_pipeline"):
        return
    if text(unit, "recompute_method") == "block" and count > -(-layers // pipeline):
        yield Problem(here, f"{said(here)} is more than the {-(-layers // pipeline)} layers of a stage")
