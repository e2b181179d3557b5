"""torchtitan's pipeline schedules."""

import math

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._ti import TITAN, degree, degree_setting, layers, whole
from advisor_mcp.linting.unit import Unit

_SINGLE = {"1f1b", "gpipe"}
_SCHEDULES = ("1F1B", "GPipe", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")
_KNOWN = {name.lower() for name in (*_SCHEDULES, "PipelineScheduleSingle", "PipelineScheduleMulti")}
_SCHEDULE = "parallelism.pipeline_parallel_schedule"
_MICRO = "parallelism.pipeline_parallel_microbatch_size"
_PER_STAGE = "parallelism.pipeline_parallel_layers_per_stage"


def _schedule(unit: Unit) -> str | None:
    """The schedule's name in small letters; None where a CSV file takes its place or nothing is known."""
    name = unit.text(_SCHEDULE, "1F1B" if unit.tool == "torchtitan" else None)
    return None if unit.text("parallelism.pipeline_parallel_schedule_csv") else (name or "").lower() or None


@rule("TI020", "too-few-microbatches", tools=TITAN, harm="crash", causes=("pp-microbatch",))
def too_few_microbatches(unit: Unit, job: Job) -> Found:
    """Allow too-few-microbatches.

    ## What it does
    Checks that the local batch is a multiple of the pipeline's microbatch size and gives at least as many microbatches
    as the schedule needs: 1F1B and DualPipeV one for every stage, the interleaved ones a multiple of their rounds.

    ## Why is this bad?
    torchtitan or torch stops; some schedules hang instead. With fewer microbatches than stages the rest wait.

    ## Example
    ```toml train.toml
    [training]
    local_batch_size = 1
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_microbatch_size = 2
    ```

    ## Use instead
    ```toml train.toml
    [training]
    local_batch_size = 8
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_microbatch_size = 1
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/pipeline_parallel.py, build_pipeline_schedule
    - torch 2.13.0, torch/distributed/pipelining/schedules.py
    - pytorch/torchtitan#775
    - pytorch/pytorch#144702
    """
    stages, local, micro = (
        degree(unit, "pipeline_parallel"),
        whole(unit, "training.local_batch_size", 8),
        whole(unit, _MICRO, 1),
    )
    here = unit.setting("training.local_batch_size", _MICRO) or degree_setting(unit, "pipeline_parallel")
    if here is None or not stages or stages < 2 or not local or not micro:
        return
    schedule, count = _schedule(unit), local // micro
    many = f"use a local batch of {micro * stages} or more"
    fix = set_value(here, micro * stages) if here.name == "training.local_batch_size" else advise(many)
    if local % micro:
        yield Problem(here, f"the local batch {local} is no multiple of the microbatch size {micro}", fix)
    elif schedule in ("1f1b", "dualpipev") and count < stages:
        yield Problem(here, f"{count} microbatches are fewer than the {stages} pipeline stages", fix)
    elif schedule in ("interleaved1f1b", "interleavedzerobubble") and count % max(1, count // stages):
        yield Problem(
            here, f"{count} microbatches are no multiple of their {count // stages} rounds over {stages} ranks", fix
        )
    elif schedule is not None and count < stages:
        yield Problem(
            here,
            f"{count} microbatches are fewer than the {stages} pipeline stages, which idle",
            fix,
            severity="warning",
        )


@rule("TI021", "layers-that-do-not-fill-the-stages", tools=TITAN, harm="crash", causes=("pp-stages",))
def layers_that_do_not_fill_the_stages(unit: Unit, job: Job) -> Found:
    """Allow layers-that-do-not-fill-the-stages.

    ## What it does
    Works out the stages of `pipeline_parallel_layers_per_stage` and checks them against the schedule: 1F1B and GPipe
    take one a rank, the others at least two, DualPipeV and ZBVZeroBubble exactly two, and every rank as many.

    ## Why is this bad?
    torchtitan stops: "Single stage schedule requires exactly 1 stage per rank".

    ## Example
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "8B"
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "1F1B"
    pipeline_parallel_layers_per_stage = 4
    ```

    ## Use instead
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "8B"
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "1F1B"
    ```

    ## Versions
    All. The embedding and the output count as one layer each unless `..._stage_less_layers` says otherwise.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/pipeline_parallel.py, pipeline_llm
    """
    here, each, ranks = unit.setting(_PER_STAGE), whole(unit, _PER_STAGE), degree(unit, "pipeline_parallel")
    schedule = _schedule(unit)
    count = layers(unit)
    if here is None or not each or not ranks or ranks < 2 or schedule not in _KNOWN:
        return
    if count is None:
        if schedule in _SINGLE:
            yield Problem(
                here, f"{here.shown} is refused unless it makes exactly {ranks} stages", remove(here), severity="info"
            )
        return
    ends = (whole(unit, "parallelism.pipeline_parallel_first_stage_less_layers", 1) or 0) + (
        whole(unit, "parallelism.pipeline_parallel_last_stage_less_layers", 1) or 0
    )
    stages = math.ceil((count + ends) / each)
    per_rank = stages / ranks
    wanted = (
        "1 stage"
        if schedule in _SINGLE
        else "2 stages"
        if schedule in ("zbvzerobubble", "dualpipev")
        else "2 stages or more"
    )
    fits = per_rank == int(per_rank) and (
        per_rank == 1 if schedule in _SINGLE else per_rank == 2 if wanted == "2 stages" else per_rank >= 2
    )
    if not fits:
        said = f"{count} layers and the ends at {each} a stage are {stages} stages over {ranks} ranks"
        yield Problem(
            here, f"{said}; the schedule needs {wanted} for every rank", remove(here, why="torchtitan works it out")
        )


@rule("TI022", "unknown-pipeline-schedule", tools=TITAN, harm="crash", causes=("pp-schedule",))
def unknown_pipeline_schedule(unit: Unit, job: Job) -> Found:
    """Allow unknown-pipeline-schedule.

    ## What it does
    Checks the schedule's name against torch's schedules.

    ## Why is this bad?
    torch stops: "Unknown schedule name".

    ## Example
    ```toml train.toml
    [training]
    local_batch_size = 8
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "Interleaved-1F1B"
    ```

    ## Use instead
    ```toml train.toml
    [training]
    local_batch_size = 8
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "Interleaved1F1B"
    ```

    ## Versions
    All; DualPipeV from torch 2.9 on.

    ## References
    - torch 2.13.0, torch/distributed/pipelining/schedules.py, get_schedule_class
    """
    here, name = unit.setting(_SCHEDULE), unit.text(_SCHEDULE)
    if here is None or not name or name.lower() in _KNOWN or (degree(unit, "pipeline_parallel") or 1) < 2:
        return
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    near = next((known for known in _SCHEDULES if known.lower() == plain), None)
    fix = set_value(here, near) if near else advise(f"choose one of {', '.join(_SCHEDULES)}")
    yield Problem(here, f"{here.shown} is no schedule of torch", fix)


@rule("TI023", "dualpipe-with-checkpointed-experts", tools=TITAN, harm="crash", causes=("dualpipe-ac-ep",))
def dualpipe_with_checkpointed_experts(unit: Unit, job: Job) -> Found:
    """Allow dualpipe-with-checkpointed-experts.

    ## What it does
    Looks for DualPipeV with expert parallelism and activation checkpointing.

    ## Why is this bad?
    torchtitan stops: "Expert Parallel with DualPipeV and Activation Checkpointing cannot be used together".

    ## Example
    ```toml train.toml
    [activation_checkpoint]
    mode = "full"
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "DualPipeV"
    expert_parallel_degree = 2
    ```

    ## Use instead
    ```toml train.toml
    [activation_checkpoint]
    mode = "none"
    [parallelism]
    pipeline_parallel_degree = 4
    pipeline_parallel_schedule = "DualPipeV"
    expert_parallel_degree = 2
    ```

    ## Versions
    0.2; not with `pipeline_parallel_expert_parallel_overlap = false`.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/dual_pipe_v.py, get_dual_pipe_v_flag
    """
    here, mode = unit.setting("activation_checkpoint.mode"), unit.text("activation_checkpoint.mode")
    overlap = unit.truth("parallelism.pipeline_parallel_expert_parallel_overlap", True)
    both = (degree(unit, "pipeline_parallel") or 1) > 1 and (degree(unit, "expert_parallel") or 1) > 1
    if here is not None and mode not in (None, "none") and both and overlap and _schedule(unit) == "dualpipev":
        yield Problem(
            here, f"{here.shown} cannot be used with DualPipeV and expert parallelism", set_value(here, "none")
        )


@rule("TI024", "more-stages-than-layers", tools=TITAN, harm="crash", causes=("pp-too-many-stages",))
def more_stages_than_layers(unit: Unit, job: Job) -> Found:
    """Allow more-stages-than-layers.

    ## What it does
    Compares the pipeline's stages with the model's layers.

    ## Why is this bad?
    torchtitan stops: "Number of stages cannot be greater than effective layers".

    ## Example
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "debugmodel"
    [parallelism]
    pipeline_parallel_degree = 8
    pipeline_parallel_schedule = "Interleaved1F1B"
    ```

    ## Use instead
    ```toml train.toml
    [model]
    name = "llama3"
    flavor = "debugmodel"
    [parallelism]
    pipeline_parallel_degree = 2
    pipeline_parallel_schedule = "Interleaved1F1B"
    ```

    ## Versions
    All.

    ## References
    - torchtitan 0.2.2, torchtitan/distributed/pipeline_parallel.py, generate_llm_fqn_per_model_part
    """
    here, ranks, count, schedule = (
        degree_setting(unit, "pipeline_parallel"),
        degree(unit, "pipeline_parallel"),
        layers(unit),
        _schedule(unit),
    )
    if here is None or not ranks or ranks < 2 or count is None or schedule not in _KNOWN or _PER_STAGE in unit:
        return
    stages = ranks * (1 if schedule in _SINGLE else 2)
    if stages > count + 2:
        yield Problem(here, f"{stages} pipeline stages are more than the {count} layers and the two ends")


@rule("TI025", "graphs-with-a-pipeline", tools=TITAN, harm="crash", causes=("cuda-graph-pp",))
def graphs_with_a_pipeline(unit: Unit, job: Job) -> Found:
    """Allow graphs-with-a-pipeline.

    ## What it does
    Looks for pipeline parallelism without `training.disable_cuda_graphs`.

    ## Why is this bad?
    CUDA graphs are on by default from 0.3 on. torchtitan stops: "CUDA graphs do not support pipeline parallelism yet".

    ## Example
    ```python config_registry.py torchtitan=0.3.0
    from torchtitan.trainer import Trainer
    def config():
        return Trainer.Config(
            training=TrainingConfig(local_batch_size=8),
            parallelism=ParallelismConfig(pipeline_parallel_degree=4),
        )
    ```

    ## Use instead
    ```python config_registry.py torchtitan=0.3.0
    from torchtitan.trainer import Trainer
    def config():
        return Trainer.Config(
            training=TrainingConfig(local_batch_size=8, disable_cuda_graphs=True),
            parallelism=ParallelismConfig(pipeline_parallel_degree=4),
        )
    ```

    ## Versions
    From 0.3 on, for configurations written in Python.

    ## References
    - torchtitan 0.3.0, torchtitan/trainer.py, _validate_cuda_graphs
    """
    here = degree_setting(unit, "pipeline_parallel")
    if (
        here is None
        or here.syntax != "python"
        or unit.tool != "torchtitan"
        or unit.before("0.3")
        or (degree(unit, "pipeline_parallel") or 1) < 2
    ):
        return
    if unit.truth("training.disable_cuda_graphs", False) is False:
        yield Problem(
            here, f"{here.shown} needs training.disable_cuda_graphs", advise("set training.disable_cuda_graphs to True")
        )
