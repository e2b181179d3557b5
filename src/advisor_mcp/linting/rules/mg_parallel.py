"""Megatron's parallel sizes against the world, the batch and the sequence."""

from advisor_mcp.linting.edits import Fix, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, Skipped
from advisor_mcp.linting.rules._mg import (
    find,
    flag,
    megatron_rule,
    missing,
    on,
    said,
    size,
    switch,
    whole,
)
from advisor_mcp.linting.source import line_end
from advisor_mcp.linting.unit import Setting, Unit

_MODEL_SIZES = ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size")


def _product(unit: Unit) -> int | None:
    """GPUs that one copy of the model takes."""
    sizes = [size(unit, name) for name in _MODEL_SIZES]
    total = 1
    for each in sizes:
        if each is None:
            return None
        total *= each
    return total


def _sure(unit: Unit, job: Job) -> Severity:
    """A node count of 1 that a script holds in a variable is meant to be changed by whoever runs it."""
    nodes = unit.launcher.settings.get("nnodes") if unit.launcher else None
    return (
        "warning"
        if not job.given.world_size
        and nodes is not None
        and nodes.at.source.text[nodes.at.start : nodes.at.end] != nodes.key.text
        and "$" in _line(nodes)
        else "error"
    )


def _line(setting: Setting) -> str:
    text = setting.key.source.text
    return text[setting.key.start : line_end(text, setting.key.end)]


@megatron_rule("MG020", "world-size-the-model-does-not-divide", harm="crash", causes=("world-size-product",))
def world_size_the_model_does_not_divide(unit: Unit, job: Job) -> Found:
    """Allow world-size-the-model-does-not-divide.

    ## What it does
    Checks that the number of processes is a multiple of tensor x pipeline x context parallel size, and of expert tensor
    x expert x pipeline parallel size.

    ## Why is this bad?
    No data-parallel size is left that fits, and Megatron stops: "world size is not divisible by total_model_size".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 \\
      --pipeline-model-parallel-size 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 \\
      --pipeline-model-parallel-size 2
    ```

    ## Versions
    All. A warning only where the script holds the node count in a variable that is meant to be changed.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/parallel_state.py, initialize_model_parallel
    - NVIDIA-NeMo/Megatron-Bridge#546
    - NVIDIA/Megatron-LM#5768
    """
    model = _product(unit)
    given = [found for found in (find(unit, name) for name in _MODEL_SIZES) if found is not None]
    if model is None or model == 1 or not given:
        return
    world = job.world_size(unit)
    if world is None:
        yield Skipped("the world size")
    elif world % model:
        here = max(given, key=lambda found: int(str(found.value)) if str(found.value).isdigit() else 0)
        what = " x ".join(f"{size(unit, name)}" for name in _MODEL_SIZES)
        yield Problem(
            here,
            f"tensor x pipeline x context parallel size is {what} = {model}, which {world} processes are no multiple of",
            severity=_sure(unit, job),
        )
    else:
        yield from _expert_world(unit, world, _sure(unit, job))


def _expert_world(unit: Unit, world: int, severity: Severity) -> Found:
    here, experts = find(unit, "expert_model_parallel_size"), size(unit, "expert_model_parallel_size")
    pipeline = size(unit, "pipeline_model_parallel_size")
    tensor = whole(unit, "expert_tensor_parallel_size") or size(unit, "tensor_model_parallel_size")
    if here is not None and experts and pipeline and tensor and world % (experts * pipeline * tensor):
        what = f"expert {experts} x expert tensor {tensor} x pipeline {pipeline} = {experts * pipeline * tensor}"
        yield Problem(here, f"{what}, which {world} processes are no multiple of", severity=severity)


@megatron_rule("MG021", "indivisible-global-batch", harm="crash", causes=("batch-arithmetic",))
def indivisible_global_batch(unit: Unit, job: Job) -> Found:
    """Allow indivisible-global-batch.

    ## What it does
    Checks that the global batch size is a multiple of micro batch size x data-parallel size, for training and, where
    they are set, for the evaluation's own sizes.

    ## Why is this bad?
    Megatron stops: "global batch size is not divisible by micro batch size times data parallel size".

    ## Example
    ```bash launch.sh world_size=8
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --micro-batch-size 2 --global-batch-size 100
    ```

    ## Use instead
    ```bash launch.sh world_size=8
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --micro-batch-size 2 --global-batch-size 96
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/num_microbatches_calculator.py
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    yield from _batch(unit, job, "global_batch_size", "micro_batch_size")
    if find(unit, "eval_global_batch_size"):
        yield from _batch(unit, job, "eval_global_batch_size", "eval_micro_batch_size")


def _batch(unit: Unit, job: Job, total: str, each: str) -> Found:
    here, batch, micro = find(unit, total), whole(unit, total), whole(unit, each) or whole(unit, "micro_batch_size")
    if here is None or not batch or not micro or on(unit, "decrease_batch_size_if_needed"):
        return
    model, world = _product(unit), job.world_size(unit)
    if batch % micro:
        yield Problem(
            here, f"{said(here)} is no multiple of the micro batch size {micro}", _nearest(here, batch, micro)
        )
    elif world is None or model is None:
        yield Skipped("the world size")
    elif world and world % model == 0 and batch % (micro * world // model):
        step = micro * world // model
        message = f"{said(here)} is no multiple of micro batch {micro} x {world // model} data-parallel ranks = {step}"
        yield Problem(here, message, _nearest(here, batch, step), severity=_sure(unit, job))


def _nearest(setting: Setting, batch: int, step: int) -> Fix:
    return set_value(setting, max(step, batch // step * step), why=f"a multiple of {step}")


@megatron_rule(
    "MG022", "sequence-context-parallelism-cannot-cut", harm="crash", causes=("cp-seq-divisibility", "ctx-div-parallel")
)
def sequence_context_parallelism_cannot_cut(unit: Unit, job: Job) -> Found:
    """Allow sequence-context-parallelism-cannot-cut.

    ## What it does
    Checks that the sequence length is a multiple of twice the context-parallel size.

    ## Why is this bad?
    Each rank takes one chunk from the front and one from the back, so that causal attention costs all the same.
    Megatron stops: "seq-length should be a multiple of 2 * context-parallel-size".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4098 --context-parallel-size 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4096 --context-parallel-size 4
    ```

    ## Versions
    All. Megatron-Bridge also takes sequence parallelism into the multiple for packed and padded datasets.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, ConfigContainer.validate
    """
    here, length, context = find(unit, "seq_length"), whole(unit, "seq_length"), size(unit, "context_parallel_size")
    if here is not None and length and context and context > 1 and length % (2 * context):
        fix = set_value(here, max(1, round(length / (2 * context))) * 2 * context)
        yield Problem(here, f"{said(here)} is no multiple of 2 x context-parallel size {context} = {2 * context}", fix)


@megatron_rule("MG023", "sequence-tensor-parallelism-cannot-cut", harm="crash", causes=("sp-seq-tp",))
def sequence_tensor_parallelism_cannot_cut(unit: Unit, job: Job) -> Found:
    """Allow sequence-tensor-parallelism-cannot-cut.

    ## What it does
    Checks, with sequence parallelism, that each context-parallel rank's part of the sequence is a multiple of the
    tensor-parallel size.

    ## Why is this bad?
    Sequence parallelism cuts the sequence over the tensor-parallel ranks. No check looks at it before the first step,
    which stops with "First dimension of the tensor should be divisible by tensor parallel size".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4100 --tensor-model-parallel-size 8 \\
      --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4096 --tensor-model-parallel-size 8 \\
      --sequence-parallel
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/core/tensor_parallel/mappings.py, _split_along_first_dim
    """
    here, length = find(unit, "seq_length"), whole(unit, "seq_length")
    tensor, context = size(unit, "tensor_model_parallel_size"), size(unit, "context_parallel_size")
    if here is None or not length or not tensor or not context or tensor == 1 or not on(unit, "sequence_parallel"):
        return
    step = tensor * context * (2 if context > 1 else 1)
    if (
        find(unit, "decoder_seq_length") is None
        and length % (tensor * context)
        and not (context > 1 and length % (2 * context))
    ):
        fix = set_value(here, max(1, round(length / step)) * step)
        yield Problem(
            here,
            f"{said(here)} over {context} context-parallel ranks is no multiple of tensor-parallel size {tensor}",
            fix,
        )


@megatron_rule(
    "MG024",
    "sequence-parallelism-of-one",
    harm="ignored",
    severity="info",
    causes=("sp-without-tp",),
    tools=("megatron-lm", "nemo"),
)
def sequence_parallelism_of_one(unit: Unit, job: Job) -> Found:
    """Allow sequence-parallelism-of-one.

    ## What it does
    Looks for sequence parallelism where the tensor-parallel size is 1.

    ## Why is this bad?
    It is the second half of tensor parallelism and saves nothing by itself. Megatron-LM turns it off with a warning; a
    `TransformerConfig` built directly raises "Cannot use sequence parallelism without tensor parallelism".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 1 --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 1
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/model_parallel_config.py, __post_init__
    """
    here, tensor = switch(unit, "sequence_parallel"), find(unit, "tensor_model_parallel_size")
    if here is not None and tensor is not None and size(unit, "tensor_model_parallel_size") == 1:
        yield Problem(here, f"{here.written} does nothing with {said(tensor)}", remove(here), (tensor,))


@megatron_rule("MG027", "tensor-parallelism-across-nodes", harm="slow", severity="warning", causes=("tp-across-nodes",))
def tensor_parallelism_across_nodes(unit: Unit, job: Job) -> Found:
    """Allow tensor-parallelism-across-nodes.

    ## What it does
    Looks for a tensor-parallel size above the number of GPUs of a node.

    ## Why is this bad?
    Tensor parallelism exchanges activations twice in every layer. Between nodes that goes over the network, several
    times slower than NVLink, and the GPUs wait for it.

    ## Example
    ```bash launch.sh
    torchrun --nnodes 2 --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 16
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes 2 --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 \\
      --pipeline-model-parallel-size 2
    ```

    ## Versions
    All. Not where NVLink spans the nodes (GB200 NVL72).

    ## References
    - Megatron-LM main d98e8a64, docs/user-guide/parallelism-guide.md
    """
    here, tensor = find(unit, "tensor_model_parallel_size"), size(unit, "tensor_model_parallel_size")
    launcher = unit.launcher if unit.launcher is not None and unit.launcher.tool == "torchrun" else None
    per_node = job.gpus_per_node or (launcher.number("nproc_per_node") if launcher else None)
    world = job.world_size(unit)
    rack = job.gpu is not None and "gb" in job.gpu.name
    if here is not None and tensor and per_node and tensor > per_node and world and world > per_node and not rack:
        fix = set_value(here, int(per_node), why="and use pipeline parallelism between the nodes")
        yield Problem(here, f"{said(here)} spans nodes of {int(per_node)} GPUs each", fix)


@megatron_rule("MG028", "hierarchical-context-sizes", harm="wrong_result", causes=("hierarchical-cp",))
def hierarchical_context_sizes(unit: Unit, job: Job) -> Found:
    """Allow hierarchical-context-sizes.

    ## What it does
    Checks that `--cp-comm-type a2a+p2p` comes with `--hierarchical-context-parallel-sizes`, whose product is the
    context-parallel size.

    ## Why is this bad?
    Megatron-LM stops at start. Without the sizes the ranks would attend to their own chunk alone: fast, and wrong.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 32 --context-parallel-size 16 \\
      --cp-comm-type a2a+p2p
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 32 --context-parallel-size 16 \\
      --cp-comm-type a2a+p2p --hierarchical-context-parallel-sizes 8 2
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, _validate_cp_comm_type
    """
    kind, sizes, context = (
        find(unit, "cp_comm_type"),
        find(unit, "hierarchical_context_parallel_sizes"),
        size(unit, "context_parallel_size"),
    )
    if (
        kind is not None
        and kind.known
        and "a2a+p2p" in str(kind.value)
        and missing(unit, "hierarchical_context_parallel_sizes")
    ):
        yield Problem(kind, f"{said(kind)} needs {flag(unit, 'hierarchical_context_parallel_sizes')}")
    numbers = unit.items(sizes.name) if sizes is not None else None
    if (
        sizes is None
        or context is None
        or not numbers
        or len(numbers) < 2
        or not all(str(each).isdigit() for each in numbers)
    ):
        return
    product = 1
    for each in numbers:
        product *= int(each)
    if product != context:
        yield Problem(sizes, f"the product of {said(sizes)} is {product}, and the context-parallel size {context}")
