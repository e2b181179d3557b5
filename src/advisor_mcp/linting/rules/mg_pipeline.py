"""How Megatron cuts layers into pipeline stages."""

import math
import re

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem
from advisor_mcp.linting.rules._mg import find, megatron_rule, moved, number, on, said, size, text, whole
from advisor_mcp.linting.unit import Setting, Unit

_UNEVEN = ("decoder_first_pipeline_num_layers", "decoder_last_pipeline_num_layers")
_ACCOUNT = ("account_for_embedding_in_pipeline_split", "account_for_loss_in_pipeline_split")
_VIRTUAL = ("num_layers_per_virtual_pipeline_stage", "num_virtual_stages_per_pipeline_rank")


def _layers(unit: Unit) -> int | None:
    """Layers that are spread over the stages, with the embedding and the loss where they count as one each."""
    layers = whole(unit, "num_layers")
    return None if layers is None else layers + sum(on(unit, name) for name in _ACCOUNT)


def _is_plain(unit: Unit) -> bool:
    """Whether layers are spread evenly, by their number alone."""
    return not find(unit, *_UNEVEN, "pipeline_model_parallel_layout", "hybrid_layer_pattern", "hybrid_override_pattern")


def _smaller(pipeline: int, layers: int) -> int:
    return math.gcd(layers, pipeline)


@megatron_rule("MG001", "layers-that-do-not-fill-the-pipeline", harm="crash", causes=("pp-layers",))
def layers_that_do_not_fill_the_pipeline(unit: Unit, job: Job) -> Found:
    """Allow layers-that-do-not-fill-the-pipeline.

    ## What it does
    Checks that the number of layers (plus one each where embedding and loss are counted in) is a multiple of the
    pipeline size, where no uneven split, layout or hybrid pattern says how to cut them.

    ## Why is this bad?
    Megatron stops: "Number of layers should be divisible by the pipeline-model-parallel size". Older versions went on
    and trained fewer layers than were asked for (28 of 30) without a word.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 46 --pipeline-model-parallel-size 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 46 --pipeline-model-parallel-size 2
    ```

    ## Versions
    Megatron-LM from core 0.12 stops; before that layers were lost.

    ## References
    - NVIDIA/Megatron-LM#1304
    - THUDM/slime#1486
    - Megatron-LM core_v0.12.0 to core_v0.19.0, megatron/training/arguments.py, validate_args
    """
    layers, pipeline = _layers(unit), size(unit, "pipeline_model_parallel_size")
    if not layers or not pipeline or not _is_plain(unit) or find(unit, *_VIRTUAL) or layers % pipeline == 0:
        return
    here, also = find(unit, "pipeline_model_parallel_size"), find(unit, "num_layers")
    if here is not None and also is not None:
        fix = set_value(
            here, _smaller(pipeline, layers), why="or split unevenly with --decoder-first-pipeline-num-layers"
        )
        yield Problem(here, f"{layers} layers cannot be spread evenly over {pipeline} pipeline stages", fix, (also,))


@megatron_rule("MG002", "layers-that-do-not-fill-virtual-stages", harm="wrong_result", causes=("vpp-layers",))
def layers_that_do_not_fill_virtual_stages(unit: Unit, job: Job) -> Found:
    """Allow layers-that-do-not-fill-virtual-stages.

    ## What it does
    Checks that the layers of a pipeline stage are a multiple of the layers of a virtual stage (or that layers are a
    multiple of pipeline size x virtual stages).

    ## Why is this bad?
    With 80 layers, 16 stages and 2 layers a virtual stage every stage should hold 5 layers, in pieces of 2. Megatron
    stops at start; older versions built a model of 64 layers.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 80 --pipeline-model-parallel-size 16 \\
      --num-layers-per-virtual-pipeline-stage 2
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 --nnodes 2 pretrain_gpt.py --num-layers 96 --pipeline-model-parallel-size 16 \\
      --num-layers-per-virtual-pipeline-stage 2
    ```

    ## Versions
    Megatron-LM from core 0.12 stops; before that layers were lost.

    ## References
    - Megatron-LM core_v0.12.0 to core_v0.19.0, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    layers, pipeline, here = _layers(unit), size(unit, "pipeline_model_parallel_size"), find(unit, *_VIRTUAL)
    virtual = number(unit, _VIRTUAL[0]) or number(unit, _VIRTUAL[1])
    if here is None or not layers or not pipeline or not virtual or not _is_plain(unit):
        return
    by_layers = find(unit, _VIRTUAL[0]) is not None
    each = layers // pipeline
    if layers % pipeline or (each % virtual if by_layers else layers % (pipeline * virtual)):
        pieces = f"pieces of {virtual}" if by_layers else f"{virtual} virtual stages"
        place = f"{layers} layers over {pipeline} stages are {each} each" + (
            f" and {layers % pipeline} over" if layers % pipeline else ""
        )
        fix = (
            set_value(here, 1, why="one layer fits any number")
            if by_layers and layers % pipeline == 0
            else advise("choose layers as a multiple of pipeline x virtual stages")
        )
        yield Problem(here, f"{place}, which cannot be cut into {pieces}", fix)


@megatron_rule("MG003", "uneven-split-of-one-stage", harm="wrong_result", causes=("pp1-last-layers",))
def uneven_split_of_one_stage(unit: Unit, job: Job) -> Found:
    """Allow uneven-split-of-one-stage.

    ## What it does
    Looks for layer numbers of the first or last pipeline stage where there is only one stage.

    ## Why is this bad?
    The one stage is then the last one and gets that many layers: a model of 1 layer is trained while parameters and
    FLOPs are reported for 20. Newer versions stop: "Mismatch: 19 middle layers remaining but 0 middle PP stages".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 20 --pipeline-model-parallel-size 1 \\
      --decoder-last-pipeline-num-layers 1
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 20 --pipeline-model-parallel-size 1
    ```

    ## Versions
    Wrong without a word in some versions, a crash in core 0.12 (division by zero) and in the newest.

    ## References
    - NVIDIA/Megatron-LM#1778
    - Megatron-LM main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    layers = whole(unit, "num_layers")
    if size(unit, "pipeline_model_parallel_size") != 1:
        return
    for name in _UNEVEN:
        here = find(unit, name)
        count = whole(unit, name)
        if here is not None and count is not None and count != layers:
            yield Problem(
                here,
                f"{said(here)} with one pipeline stage leaves a model of {count} layers",
                remove(here, why="there is only one stage"),
            )


@megatron_rule("MG004", "uneven-split-with-a-remainder", harm="crash", causes=("pp-uneven",))
def uneven_split_with_a_remainder(unit: Unit, job: Job) -> Found:
    """Allow uneven-split-with-a-remainder.

    ## What it does
    Checks an uneven pipeline split: what the first and last stage leave over must be a multiple of the stages between
    them, and each part a multiple of the virtual stages.

    ## Why is this bad?
    Megatron stops while it builds the model: "number of layers at middle stage must be divisible by the middle
    pipeline model parallel size".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 61 --pipeline-model-parallel-size 4 \\
      --decoder-last-pipeline-num-layers 12
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 61 --pipeline-model-parallel-size 4 \\
      --decoder-last-pipeline-num-layers 13
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/core/transformer/transformer_config.py, __post_init__
    """
    layers, pipeline = whole(unit, "num_layers"), size(unit, "pipeline_model_parallel_size")
    given = [found for found in (find(unit, name) for name in _UNEVEN) if found is not None]
    taken = [whole(unit, name) for name in _UNEVEN if find(unit, name)]
    if not given or None in taken or not layers or not pipeline or pipeline == 1:
        return
    left, stages = layers - sum(count or 0 for count in taken), pipeline - len(taken)
    virtual = whole(unit, _VIRTUAL[1]) or 1
    here = given[-1]
    if bool(left) != bool(stages) or left < 0:
        yield Problem(here, f"{left} layers are left for {stages} stages between the first and the last")
    elif stages and left % stages:
        last = (whole(unit, here.name.rpartition(".")[2]) or 0) + left % stages
        yield Problem(
            here, f"{left} layers are left for {stages} stages, which they cannot fill evenly", set_value(here, last)
        )
    elif virtual > 1 and any((count or 0) % virtual for count in (*taken, left // stages if stages else 0)):
        yield Problem(here, f"the layers of each stage must be a multiple of the {virtual} virtual stages")


@megatron_rule("MG005", "conflicting-pipeline-splits", harm="crash", causes=("pp-split-conflict",))
def conflicting_pipeline_splits(unit: Unit, job: Job) -> Found:
    """Allow conflicting-pipeline-splits.

    ## What it does
    Looks for several ways of cutting the pipeline at once: layer numbers of the outer stages beside
    `account-for-embedding/loss-in-pipeline-split`, a layout beside either, layers a virtual stage beside any of them.

    ## Why is this bad?
    Each way fixes the same cut. Megatron refuses the pairs it knows of at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 30 --pipeline-model-parallel-size 4 \\
      --decoder-last-pipeline-num-layers 6 --account-for-loss-in-pipeline-split
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 30 --pipeline-model-parallel-size 4 \\
      --decoder-last-pipeline-num-layers 6
    ```

    ## Versions
    All; the layout exists from core 0.14 on.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.19.0, megatron/core/transformer/transformer_config.py, __post_init__
    """
    uneven = find(unit, *_UNEVEN)
    account = next((find(unit, name) for name in _ACCOUNT if on(unit, name)), None)
    layout, by_layers, by_stages = (
        find(unit, "pipeline_model_parallel_layout"),
        find(unit, _VIRTUAL[0]),
        find(unit, _VIRTUAL[1]),
    )
    pairs: list[tuple[Setting | None, Setting | None]] = [
        (uneven, account), (layout, uneven), (layout, account), (layout, by_layers), (uneven, by_layers), (by_layers, by_stages),
    ]  # fmt: skip
    if unit.tool == "megatron-lm":
        pairs.append((layout, by_stages))
    for kept, dropped in pairs:
        if kept is not None and dropped is not None:
            yield Problem(
                dropped, f"{said(dropped)} and {said(kept)} both say how to cut the pipeline", remove(dropped), (kept,)
            )
            return


@megatron_rule("MG006", "interleaving-without-a-pipeline", harm="crash", causes=("vpp-needs-pp",))
def interleaving_without_a_pipeline(unit: Unit, job: Job) -> Found:
    """Allow interleaving-without-a-pipeline.

    ## What it does
    Looks for virtual pipeline stages where the pipeline has one stage, or two without overlapped communication.

    ## Why is this bad?
    The interleaved schedule is refused: "pipeline-model-parallel size should be greater than 1 with interleaved
    schedule" (greater than 2 without overlapped point-to-point communication).

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 1 \\
      --num-layers-per-virtual-pipeline-stage 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 4 \\
      --num-layers-per-virtual-pipeline-stage 4
    ```

    ## Versions
    All.

    ## References
    - Megatron-LM core_v0.12.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM main d98e8a64, megatron/core/parallel_state.py, initialize_model_parallel
    """
    here, pipeline = find(unit, *_VIRTUAL), size(unit, "pipeline_model_parallel_size")
    if here is None or pipeline is None or _one_virtual_stage(unit, pipeline):
        return
    least = 3 if on(unit, "no_overlap_p2p_communication") else 2
    if pipeline < least:
        yield Problem(
            here, f"interleaving needs at least {least} pipeline stages, and there are {pipeline}", moved(here)
        )


def _one_virtual_stage(unit: Unit, pipeline: int) -> bool:
    """Whether the options come to one virtual stage, which is no interleaving."""
    layers, each = _layers(unit), whole(unit, _VIRTUAL[0])
    return whole(unit, _VIRTUAL[1]) == 1 or (each is not None and layers is not None and layers == each * pipeline)


@megatron_rule("MG007", "too-few-microbatches-to-interleave", harm="crash", causes=("vpp-microbatches",))
def too_few_microbatches_to_interleave(unit: Unit, job: Job) -> Found:
    """Allow too-few-microbatches-to-interleave.

    ## What it does
    Checks that an interleaved pipeline gets at least as many microbatches as it has stages, and no rest that is smaller
    than the pipeline.

    ## Why is this bad?
    The interleaved schedule works in groups of as many microbatches as there are stages. Fewer, or a smaller last
    group, is an error at the first step.

    ## Example
    ```bash launch.sh world_size=8
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 4 \\
      --num-layers-per-virtual-pipeline-stage 2 --micro-batch-size 1 --global-batch-size 6
    ```

    ## Use instead
    ```bash launch.sh world_size=8
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 32 --pipeline-model-parallel-size 4 \\
      --num-layers-per-virtual-pipeline-stage 2 --micro-batch-size 1 --global-batch-size 8
    ```

    ## Versions
    All; `--microbatch-group-size-per-virtual-pipeline-stage` sets another group size.

    ## References
    - Megatron-LM main d98e8a64, megatron/core/pipeline_parallel/schedules.py, forward_backward_pipelining_with_interleaving
    """
    pipeline, world, here = (
        size(unit, "pipeline_model_parallel_size"),
        job.world_size(unit),
        find(unit, "global_batch_size"),
    )
    micro, batch = whole(unit, "micro_batch_size"), whole(unit, "global_batch_size")
    tensor, context = size(unit, "tensor_model_parallel_size"), size(unit, "context_parallel_size")
    if (
        not pipeline
        or pipeline < 2
        or find(unit, *_VIRTUAL) is None
        or _one_virtual_stage(unit, pipeline)
        or not micro
        or not batch
        or here is None
    ):
        return
    if world is None or tensor is None or context is None or world % (tensor * pipeline * context):
        return
    replicas = world // (tensor * pipeline * context)
    if batch % (micro * replicas):
        return
    count, group = (
        batch // (micro * replicas),
        whole(unit, "microbatch_group_size_per_virtual_pipeline_stage", pipeline) or pipeline,
    )
    rest = count % group
    if count < group or 0 < rest < pipeline:
        what = f"{count} microbatches for groups of {group}" + (
            f" leave a last group of {rest}" if count >= group else ""
        )
        yield Problem(
            here,
            f"{what}; the interleaved schedule needs a multiple of {group}",
            set_value(here, group * micro * replicas * max(1, round(count / group))),
        )


@megatron_rule("MG008", "pipeline-layout-that-does-not-fit", harm="crash", causes=("pp-layout",))
def pipeline_layout_that_does_not_fit(unit: Unit, job: Job) -> Found:
    """Allow pipeline-layout-that-does-not-fit.

    ## What it does
    Counts the stages and the decoder layers of a `--pipeline-model-parallel-layout`: stages must be a multiple of the
    pipeline size, `t` layers as many as `--num-layers`, with one `E` in front and one `L` at the end.

    ## Why is this bad?
    Megatron stops at start.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 8 --pipeline-model-parallel-size 4 \\
      --pipeline-model-parallel-layout "Et*3|t*3|tL"
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 8 --pipeline-model-parallel-size 4 \\
      --pipeline-model-parallel-layout "Et*2|t*2|t*2|t*2L"
    ```

    ## Versions
    From core 0.14 on.

    ## References
    - Megatron-LM main d98e8a64, megatron/core/transformer/pipeline_parallel_layer_layout.py
    """
    here, layout = find(unit, "pipeline_model_parallel_layout"), text(unit, "pipeline_model_parallel_layout")
    pipeline, layers = size(unit, "pipeline_model_parallel_size"), whole(unit, "num_layers")
    if here is None or not layout or pipeline is None or not set(layout) <= set("Etm|L*(),0123456789 "):
        return
    unrolled = _unrolled(layout)
    stages, counted = unrolled.count("|") + 1, unrolled.count("t")
    if stages % pipeline:
        yield Problem(here, f"the layout has {stages} stages, which is no multiple of the pipeline size {pipeline}")
    elif layers is not None and counted != layers:
        yield Problem(here, f"the layout places {counted} decoder layers, and the model has {layers}")


def _unrolled(layout: str) -> str:
    """A layout with its repetitions written out: ``Et*2|(t|)*2tL`` as ``Ett|t|t|tL``."""
    for pattern in (r"\(([^()]+)\)\*(\d{1,4})", r"(.)\*(\d{1,4})"):
        layout = re.sub(pattern, lambda found: found[1] * int(found[2]), layout[:2000])
    return layout


@megatron_rule(
    "MG009", "batch-schedule-conflict", harm="crash", causes=("batch-schedule-conflict",), tools=("megatron-lm",)
)
def batch_schedule_conflict(unit: Unit, job: Job) -> Found:
    """Allow batch-schedule-conflict.

    ## What it does
    Looks for two sources of the batch size: `--step-batch-size-schedule` beside `--global-batch-size`, or the older
    `--rampup-batch-size` in a run that counts iterations.

    ## Why is this bad?
    Megatron stops: the schedule replaces the global batch size, and a ramp-up needs a run that counts samples.

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --micro-batch-size 1 --global-batch-size 1536 \\
      --step-batch-size-schedule "0:16 2.4B:320 12B:1536"
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 pretrain_gpt.py --micro-batch-size 1 --step-batch-size-schedule "0:16 2.4B:320 12B:1536"
    ```

    ## Versions
    The schedule from core 0.18 on, the ramp-up with iterations until core 0.17.

    ## References
    - Megatron-LM core_v0.18.0 to main d98e8a64, megatron/training/arguments.py, validate_args
    - Megatron-LM core_v0.12.0 to core_v0.17.0, megatron/training/arguments.py, validate_args
    """
    schedule, batch = find(unit, "step_batch_size_schedule"), find(unit, "global_batch_size")
    ramp, iters = find(unit, "rampup_batch_size"), find(unit, "train_iters")
    if schedule is not None and batch is not None and unit.since("0.18"):
        yield Problem(
            batch,
            f"{said(batch)} and a batch size schedule are both set, and only one may be",
            remove(batch),
            (schedule,),
        )
    elif ramp is not None and iters is not None and unit.before("0.18"):
        yield Problem(
            ramp,
            f"{ramp.written} needs a run that counts samples, and {said(iters)} counts iterations",
            remove(ramp),
            (iters,),
        )
