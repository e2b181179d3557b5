"""Megatron's parallel sizes against the world, the batch, the sequence and the environment."""

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, Skipped
from advisor_mcp.linting.rules._mg import (
    add,
    environment_is_known,
    find,
    flag,
    megatron_rule,
    missing,
    needs,
    number,
    on,
    said,
    size,
    switch,
    text,
    whole,
)
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
    given = job.given.world_size or job.given.gpu_count
    return "warning" if not given and nodes is not None and nodes.at.source.text[nodes.at.start : nodes.at.end] != nodes.key.text and "$" in _line(nodes) else "error"


def _line(setting: Setting) -> str:
    whole_text = setting.key.source.text
    end = whole_text.find("\n", setting.key.end)
    return whole_text[setting.key.start : end if end >= 0 else len(whole_text)]


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
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --pipeline-model-parallel-size 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --pipeline-model-parallel-size 2
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
        yield Problem(here, f"tensor x pipeline x context parallel size is {what} = {model}, which {world} processes are no multiple of", severity=_sure(unit, job))
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
        yield Problem(here, f"{said(here)} is no multiple of the micro batch size {micro}", _nearest(here, batch, micro))
    elif world is None or model is None:
        yield Skipped("the world size")
    elif world % model == 0 and batch % (micro * world // model):
        step = micro * world // model
        message = f"{said(here)} is no multiple of micro batch {micro} x {world // model} data-parallel ranks = {step}"
        yield Problem(here, message, _nearest(here, batch, step), severity=_sure(unit, job))


def _nearest(setting: Setting, batch: int, step: int) -> Fix:
    return set_value(setting, max(step, batch // step * step), why=f"a multiple of {step}")


@megatron_rule("MG022", "sequence-context-parallelism-cannot-cut", harm="crash", causes=("cp-seq-divisibility", "ctx-div-parallel"))
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
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4100 --tensor-model-parallel-size 8 --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 4096 --tensor-model-parallel-size 8 --sequence-parallel
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
    if find(unit, "decoder_seq_length") is None and length % (tensor * context) and not (context > 1 and length % (2 * context)):
        fix = set_value(here, max(1, round(length / step)) * step)
        yield Problem(here, f"{said(here)} over {context} context-parallel ranks is no multiple of tensor-parallel size {tensor}", fix)


@megatron_rule("MG024", "sequence-parallelism-of-one", harm="ignored", severity="info", causes=("sp-without-tp",), tools=("megatron-lm", "nemo"))
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


@megatron_rule("MG025", "missing-max-connections", harm="crash", causes=("max-connections",), tools=("megatron-lm",))
def missing_max_connections(unit: Unit, job: Job) -> Found:
    """Allow missing-max-connections.

    ## What it does
    Looks for tensor or context parallelism without `CUDA_DEVICE_MAX_CONNECTIONS=1` in the environment, on GPUs before
    Blackwell and without FSDP.

    ## Why is this bad?
    Overlapping communication and matrix products relies on kernels starting in the order they were launched, which one
    connection guarantees. Megatron stops: "... require setting the environment variable CUDA_DEVICE_MAX_CONNECTIONS
    to 1".

    ## Example
    ```bash launch.sh gpu=h100-sxm-80gb
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --sequence-parallel
    ```

    ## Use instead
    ```bash launch.sh gpu=h100-sxm-80gb
    export CUDA_DEVICE_MAX_CONNECTIONS=1
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 4 --sequence-parallel
    ```

    ## Versions
    All; not on Blackwell and later. A warning where the GPU or the rest of the environment is not known.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    blackwell = job.gpu is not None and job.gpu.below(10) is False
    if blackwell or switch(unit, "use_torch_fsdp2", "use_megatron_fsdp", "use_custom_fsdp", "overlap_moe_expert_parallel_comm"):
        return
    for name in ("tensor_model_parallel_size", "context_parallel_size"):
        here, held = find(unit, name), unit.env.get("CUDA_DEVICE_MAX_CONNECTIONS")
        if here is None or (size(unit, name) or 1) < 2:
            continue
        if held is not None and held.known and str(held.value) != "1":
            yield Problem(held, f"{said(here)} needs CUDA_DEVICE_MAX_CONNECTIONS=1, and it is {held.value}", set_value(held, 1), (here,))
            return
        if held is None and unit.launcher is not None and environment_is_known(unit):
            sure: Severity = "error" if job.gpu is not None else "warning"
            fix = advise("export CUDA_DEVICE_MAX_CONNECTIONS=1 before it")
            yield Problem(here, f"{said(here)} needs CUDA_DEVICE_MAX_CONNECTIONS=1, and nothing here sets it", fix, severity=sure)
            return


@megatron_rule("MG026", "single-connection-fsdp", harm="crash", causes=("max-connections-fsdp",), tools=("megatron-lm", "megatron-bridge"))
def single_connection_fsdp(unit: Unit, job: Job) -> Found:
    """Allow single-connection-fsdp.

    ## What it does
    Looks for `CUDA_DEVICE_MAX_CONNECTIONS=1` with one of Megatron's FSDP implementations.

    ## Why is this bad?
    One connection puts the prefetching of the next layer's weights into one line with the computation. Megatron stops:
    "FSDP always requires CUDA_DEVICE_MAX_CONNECTIONS value large than one".

    ## Example
    ```bash launch.sh
    export CUDA_DEVICE_MAX_CONNECTIONS=1
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --use-torch-fsdp2
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    fsdp, held = switch(unit, "use_torch_fsdp2", "use_megatron_fsdp", "use_custom_fsdp"), unit.env.get("CUDA_DEVICE_MAX_CONNECTIONS")
    if fsdp is not None and held is not None and held.known and str(held.value) == "1":
        yield Problem(held, f"{fsdp.written} needs CUDA_DEVICE_MAX_CONNECTIONS unset or above 1, and it is 1", remove(held), (fsdp,))


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
    torchrun --nnodes 2 --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 --pipeline-model-parallel-size 2
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
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 32 --context-parallel-size 16 --cp-comm-type a2a+p2p
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 32 --context-parallel-size 16 --cp-comm-type a2a+p2p --hierarchical-context-parallel-sizes 8 2
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - megatron-bridge 0.6.2, megatron/bridge/training/config.py, _validate_cp_comm_type
    """
    kind, sizes, context = find(unit, "cp_comm_type"), find(unit, "hierarchical_context_parallel_sizes"), size(unit, "context_parallel_size")
    if kind is not None and kind.known and "a2a+p2p" in str(kind.value) and missing(unit, "hierarchical_context_parallel_sizes"):
        yield Problem(kind, f"{said(kind)} needs {flag(unit, 'hierarchical_context_parallel_sizes')}")
    numbers = unit.items(sizes.name) if sizes is not None else None
    if sizes is None or context is None or not numbers or len(numbers) < 2 or not all(str(each).isdigit() for each in numbers):
        return
    product = 1
    for each in numbers:
        product *= int(each)
    if product != context:
        yield Problem(sizes, f"the product of {said(sizes)} is {product}, and the context-parallel size {context}")


@megatron_rule("MG029", "tp-overlap-without-sequence-parallelism", harm="crash", causes=("tp-comm-overlap",), tools=("megatron-lm",))
def tp_overlap_without_sequence_parallelism(unit: Unit, job: Job) -> Found:
    """Allow tp-overlap-without-sequence-parallelism.

    ## What it does
    Looks for `--tp-comm-overlap` without `--sequence-parallel`, which includes a tensor-parallel size of 1.

    ## Why is this bad?
    Megatron stops: the overlap works on the gather and scatter that sequence parallelism makes.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 --tp-comm-overlap
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --tensor-model-parallel-size 8 --sequence-parallel --tp-comm-overlap
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    yield from needs(unit, "tp_comm_overlap", "sequence_parallel", "it overlaps the gather and scatter of the sequence")
    here = switch(unit, "tp_comm_overlap")
    if here is not None and on(unit, "sequence_parallel") and size(unit, "tensor_model_parallel_size") == 1:
        yield Problem(here, f"{here.written} needs sequence parallelism, which a tensor-parallel size of 1 turns off", remove(here))


@megatron_rule("MG030", "sequence-beyond-positions", harm="crash", causes=("seq-gt-max-pos", "max-seq-len"), tools=("megatron-lm",))
def sequence_beyond_positions(unit: Unit, job: Job) -> Found:
    """Allow sequence-beyond-positions.

    ## What it does
    Checks that `--max-position-embeddings` is at least the (decoder) sequence length.

    ## Why is this bad?
    Megatron stops: "max_position_embeddings must be greater than or equal to seq_length".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 8192 --max-position-embeddings 4096
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --seq-length 8192 --max-position-embeddings 8192
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, most = find(unit, "max_position_embeddings"), whole(unit, "max_position_embeddings")
    for name in ("seq_length", "decoder_seq_length"):
        length = whole(unit, name)
        if here is not None and most and length and length > most:
            yield Problem(here, f"{said(here)} is less than {flag(unit, name)} {length}", set_value(here, length))
            return


@megatron_rule("MG031", "hidden-size-heads-do-not-divide", harm="crash", causes=("hidden-heads",))
def hidden_size_heads_do_not_divide(unit: Unit, job: Job) -> Found:
    """Allow hidden-size-heads-do-not-divide.

    ## What it does
    Checks that the hidden size is a multiple of the attention heads where `--kv-channels` does not set the head size.

    ## Why is this bad?
    The head size is their quotient; Megatron stops with a bare assertion.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 4000 --num-attention-heads 32 --micro-batch-size 1 --seq-length 1024
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 2560 --num-attention-heads 48
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --hidden-size 2560 --num-attention-heads 40
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, hidden, heads = find(unit, "num_attention_heads"), whole(unit, "hidden_size"), whole(unit, "num_attention_heads")
    if here is not None and hidden and heads and hidden % heads and missing(unit, "kv_channels", "multi_latent_attention"):
        yield Problem(here, f"a hidden size of {hidden} cannot be cut into {heads} heads, and no --kv-channels says how large they are")


@megatron_rule("MG032", "query-groups-without-grouping", harm="wrong_result", severity="warning", causes=("query-groups-ignored",), tools=("megatron-lm",))
def query_groups_without_grouping(unit: Unit, job: Job) -> Found:
    """Allow query-groups-without-grouping.

    ## What it does
    Looks for `--num-query-groups` without `--group-query-attention`.

    ## Why is this bad?
    The number is only used with the switch. Without it the model gets as many key and value heads as query heads, with
    more parameters and a larger cache, and nothing says so.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-attention-heads 32 --num-query-groups 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --num-attention-heads 32 --group-query-attention --num-query-groups 8
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0, megatron/training/arguments.py, core_transformer_config_from_args
    - Megatron-LM main d98e8a64, megatron/training/argument_utils.py
    """
    here, groups = find(unit, "num_query_groups"), number(unit, "num_query_groups")
    if here is not None and groups and groups > 1 and missing(unit, "group_query_attention", "use_checkpoint_args"):
        yield Problem(here, f"{said(here)} has no effect without --group-query-attention", add(here, "group_query_attention"))


@megatron_rule("MG033", "grouped-latent-attention", harm="crash", causes=("mla-gqa",))
def grouped_latent_attention(unit: Unit, job: Job) -> Found:
    """Allow grouped-latent-attention.

    ## What it does
    Looks for grouped-query attention beside multi-latent attention, and for interleaved rotary embeddings with it.

    ## Why is this bad?
    Latent attention has its own way to share keys and values. Megatron stops: "Group query attention is mutually
    exclusive with multi latent attention".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --multi-latent-attention --group-query-attention --num-query-groups 8
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --multi-latent-attention
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    latent = switch(unit, "multi_latent_attention")
    for name in ("group_query_attention", "rotary_interleaved"):
        here = switch(unit, name)
        if latent is not None and here is not None:
            yield Problem(here, f"{here.written} cannot be used with {latent.written}", remove(here), (latent,))


@megatron_rule("MG034", "multi-token-prediction-positions", harm="crash", causes=("mtp-config",), tools=("megatron-lm",))
def multi_token_prediction_positions(unit: Unit, job: Job) -> Found:
    """Allow multi-token-prediction-positions.

    ## What it does
    Checks what multi-token prediction goes with: rotary or no position embedding, and in the first versions no context
    parallelism.

    ## Why is this bad?
    Megatron stops at start. The default position embedding is a learned one.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --mtp-num-layers 1 --position-embedding-type learned_absolute
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --mtp-num-layers 1 --position-embedding-type rope
    ```

    ## Versions
    Context parallelism is refused until core 0.13.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    """
    here, kind = find(unit, "mtp_num_layers"), find(unit, "position_embedding_type")
    if here is None or not number(unit, "mtp_num_layers"):
        return
    if kind is not None and text(unit, "position_embedding_type") not in ("rope", "none", None):
        yield Problem(kind, f"{said(here)} needs rotary or no position embedding, not {kind.value}", set_value(kind, "rope"), (here,))
    if unit.before("0.14") and (size(unit, "context_parallel_size") or 1) > 1:
        yield Problem(here, "multi-token prediction cannot be used with context parallelism before core 0.14")
