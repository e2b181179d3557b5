"""What a Slurm job starts on its nodes."""

import re

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._tc import (
    LAUNCHERS,
    above,
    batch_nodes,
    gpus_per_node,
    node_count,
    raw,
    tasks_per_node,
    tasks_setting,
    whole,
    workers,
    workers_setting,
)
from advisor_mcp.linting.unit import Setting, Unit

_EARLY = re.compile(r"\$\{?SLURM_(PROCID|NODEID|LOCALID)\b")
_REMOTE = re.compile(r"\b(srun|pdsh|mpirun|mpiexec|ssh|clush|parallel|horovodrun|enroot|prun|ray|xargs)\b")


@rule("SL001", "launcher-for-every-task", tools=LAUNCHERS, harm="crash", causes=("slurm-tasks-torchrun",))
def launcher_for_every_task(unit: Unit, job: Job) -> Found:
    """Allow launcher-for-every-task.

    ## What it does
    Looks for `srun` with several tasks on a node, each of which is a launcher that starts all processes of the node.

    ## Why is this bad?
    4 tasks with 4 processes each are 16 processes on 4 GPUs: "Duplicate GPU detected", or "address already in use".

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=4
    #SBATCH --gres=gpu:4
    srun torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d --rdzv_endpoint=$HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gres=gpu:4
    srun torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d --rdzv_endpoint=$HEAD:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/Megatron-LM#1371
    - pytorch/pytorch#73656
    - SchedMD/slurm 284c3b95, doc/man/man1/srun.1, --ntasks-per-node
    """
    step, batch = above(unit, "srun"), above(unit, "slurm")
    if step is None or step.open:
        return
    nodes = batch_nodes(step) or (batch_nodes(batch) if batch is not None else None)
    tasks, here = tasks_per_node(step, nodes), tasks_setting(step)
    if here is None and batch is not None:
        tasks, here = tasks_per_node(batch, nodes), tasks_setting(batch)
    count = workers(unit)
    if here is None or not tasks or tasks < 2 or count == 1 or not _multiplies(unit):
        return
    said = f"{tasks} tasks on every node each start " + (f"{count} processes" if count else "a launcher")
    value = 1 if here.name != "ntasks" else nodes
    yield Problem(
        here,
        said,
        set_value(here, value) if value else advise("start one launcher a node"),
        severity=None if count else "warning",
    )


def _multiplies(unit: Unit) -> bool:
    """Whether the launcher starts more than one process: one alone is a wrapper."""
    return workers_setting(unit) is not None


@rule("SL002", "processes-unlike-the-gpus-taken", tools=LAUNCHERS, harm="crash", causes=("sbatch-gpus-mismatch",))
def processes_unlike_the_gpus_taken(unit: Unit, job: Job) -> Found:
    """Allow processes-unlike-the-gpus-taken.

    ## What it does
    Compares the processes a launcher starts on a node with the GPUs the batch job takes on it.

    ## Why is this bad?
    More processes than GPUs fail with "invalid device ordinal"; fewer leave GPUs idle that the job pays for.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=4
    srun torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=4
    srun torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --gpus-per-node
    - k2-fsa/icefall#2067
    """
    step, batch = above(unit, "srun"), above(unit, "slurm") or _batch(unit, job)
    here, count = workers_setting(unit), workers(unit)
    taken = (gpus_per_node(step) if step is not None else None) or (gpus_per_node(batch) if batch is not None else None)
    if here is None or not count or taken is None:
        return
    number, place = taken
    if count > number:
        yield Problem(
            here, f"{count} processes on nodes of which the job takes {number} GPUs", set_value(here, number), (place,)
        )
    elif 1 < count < number and not unit.env.get("CUDA_VISIBLE_DEVICES"):
        said = f"{count} processes on nodes of which the job takes {number} GPUs, so that {number - count} stay idle"
        yield Problem(here, said, set_value(here, number), (place,), severity="warning")


def _batch(unit: Unit, job: Job) -> Unit | None:
    """The batch options of a script that starts its launcher without srun."""
    return next((other for other in job.others("slurm") if other.source is unit.source.root), None)


@rule("SL003", "nodes-that-start-nothing", tools=("torchrun",), harm="hang", causes=("slurm-multinode-no-srun",))
def nodes_that_start_nothing(unit: Unit, job: Job) -> Found:
    """Allow nodes-that-start-nothing.

    ## What it does
    Looks for a batch job of several nodes that starts torchrun for several nodes without `srun`.

    ## Why is this bad?
    A batch script runs on the first node only. That one waits for the others, which nobody has started.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --gpus-per-node=8
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --gpus-per-node=8
    srun --ntasks-per-node=1 torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1
    """
    batch = _batch(unit, job)
    nodes = batch_nodes(batch) if batch is not None else None
    if batch is None or not nodes or nodes < 2 or unit.launcher is not None or unit.source is not unit.source.root:
        return
    said = node_count(unit)
    several = (said is not None and said > 1) or (said is None and "nnodes" in unit)
    without_comments = re.sub(r"^\s*#.*$", "", unit.source.text, flags=re.MULTILINE)
    if several and not _REMOTE.search(without_comments):
        yield Problem(
            unit,
            f"the job has {nodes} nodes, and without srun only the first one starts torchrun",
            advise("write srun --ntasks-per-node=1 before it"),
            (batch["nodes"],),
        )


@rule("SL004", "other-number-of-nodes", tools=("torchrun",), harm="hang", causes=("slurm-nodes-nnodes-mismatch",))
def other_number_of_nodes(unit: Unit, job: Job) -> Found:
    """Allow other-number-of-nodes.

    ## What it does
    Compares torchrun's `--nnodes` with the nodes of the batch job.

    ## Why is this bad?
    With more nodes than there are, the rendezvous times out; with fewer, some stay idle or are turned away.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=8
    srun torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=8
    srun torchrun --nnodes $SLURM_NNODES --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/elastic/rendezvous/dynamic_rendezvous.py
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --nodes
    """
    here, step, batch = unit.setting("nnodes"), above(unit, "srun"), above(unit, "slurm") or _batch(unit, job)
    nodes = (batch_nodes(step) if step is not None else None) or (batch_nodes(batch) if batch is not None else None)
    count = unit.number("nnodes")
    if here is None or not nodes or not count or count == nodes:
        return
    fix = set_value(here, nodes) if here.at.source is here.key.source else advise(f"set it to {nodes}")
    if count > nodes:
        yield Problem(here, f"{here.shown}, and the job has {nodes} nodes: the rendezvous waits for the rest", fix)
    elif step is not None and batch is not None and "nodes" not in step:
        yield Problem(here, f"{here.shown}, and srun starts it on {nodes} nodes", fix)


@rule("SL005", "rank-of-the-first-node-everywhere", tools=LAUNCHERS, harm="hang", causes=("node-rank-early-expansion",))
def rank_of_the_first_node_everywhere(unit: Unit, job: Job) -> Found:
    """Allow rank-of-the-first-node-everywhere.

    ## What it does
    Looks for a node rank from `$SLURM_PROCID` or `$SLURM_NODEID` that the batch script expands before `srun` starts the
    tasks.

    ## Why is this bad?
    In the batch script the variable is that of the first node, 0. Every node gets rank 0, and they wait for each other.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    srun torchrun --nnodes 2 --node_rank $SLURM_PROCID --nproc_per_node 8 --master_addr $HEAD --master_port 29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    srun bash -c 'torchrun --nnodes 2 --node_rank $SLURM_PROCID --nproc_per_node 8 --master_addr $HEAD \\
      --master_port 29500 train.py'
    ```

    ## Versions
    All; not with the backend c10d, which gives the ranks itself.

    ## References
    - pytorch/pytorch#73656
    - NVIDIA/Megatron-LM#1371
    - stas00/ml-engineering, orchestration/slurm/launchers/torchrun-launcher.slurm
    """
    here = unit.setting("node_rank", "machine_rank")
    if (
        here is None
        or here.known
        or above(unit, "srun") is None
        or unit.text("rdzv_backend", "static") not in (None, "static")
    ):
        return
    if _expanded_early(here):
        yield Problem(
            here,
            "the node's rank is taken in the batch script, where it is that of the first node",
            advise("put the command into bash -c '...', so that each task expands it"),
        )


def _expanded_early(setting: Setting) -> bool:
    """Whether the batch script itself, not a shell that srun starts, puts the variable in."""
    if not _EARLY.match(raw(setting)):
        return False
    inner = setting.at.source is not setting.at.source.root
    return not inner or setting.at.text == "$UNSET"


@rule("SL006", "one-cpu-for-a-gpu", tools=("slurm",), harm="slow", severity="warning", causes=("slurm-cpus-missing",))
def one_cpu_for_a_gpu(unit: Unit, job: Job) -> Found:
    """Allow one-cpu-for-a-gpu.

    ## What it does
    Looks for a GPU job that starts tasks with `srun` and names no CPUs for them, on nodes that it shares; and for fewer
    CPUs a task than processes it starts.

    ## Why is this bad?
    A task gets one CPU unless more are asked for. The processes of eight GPUs and all their data loaders then share one
    core.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gres=gpu:8
    srun torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --ntasks-per-node=1
    #SBATCH --gres=gpu:8
    #SBATCH --cpus-per-task=96
    srun torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Versions
    All. A partition can set a number of CPUs for each GPU (DefCpuPerGPU), which a script does not show.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --cpus-per-task
    - Lightning-AI/pytorch-lightning#18650
    - niznik-dev/cruijff_kit#449
    """
    named = unit.setting("cpus_per_task")
    each = whole(unit, "cpus_per_task")
    started = [
        other
        for other in job.others(*LAUNCHERS)
        if other.source.root is unit.source and above(other, "srun") is not None
    ]
    count = max((workers(other) or 0 for other in started), default=0)
    if named is not None and each is not None and 1 <= each < count:
        yield Problem(named, f"{named.shown} for {count} processes on {count} GPUs", set_value(named, 8 * count))
        return
    gpus = unit.setting("gres", "gpus_per_node", "gpus", "gpus_per_task")
    quiet = unit.setting("cpus_per_task", "cpus_per_gpu", "exclusive", "cores_per_socket", "mincpus", "ntasks_per_core")
    in_steps = any("cpus_per_task" in step or step.open for step in job.others("srun"))
    if gpus is not None and quiet is None and not in_steps and count > 1 and tasks_per_node(unit) == 1:
        at = tasks_setting(unit) or gpus
        yield Problem(
            at,
            f"no CPUs are asked for, so that one CPU may serve {count} GPUs",
            advise("add #SBATCH --cpus-per-task"),
            (gpus,),
        )


@rule("SL007", "fewer-tasks-than-nodes", tools=("slurm",), harm="hang", causes=("slurm-ntasks-lt-nodes",))
def fewer_tasks_than_nodes(unit: Unit, job: Job) -> Found:
    """Allow fewer-tasks-than-nodes.

    ## What it does
    Checks that `--ntasks` is at least the number of nodes.

    ## Why is this bad?
    Slurm gives the job as many nodes as there are tasks, with a warning ("can't run 1 processes on 4 nodes"): a
    launcher that counts on four waits for the others.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=4
    #SBATCH --ntasks=1
    srun torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=4
    #SBATCH --ntasks=4
    srun torchrun --nnodes 4 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint $HEAD:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, src/sbatch/opt.c
    """
    here, tasks, nodes = unit.setting("ntasks"), whole(unit, "ntasks"), batch_nodes(unit)
    if here is not None and tasks and nodes and tasks < nodes:
        yield Problem(
            here, f"{here.shown} on {nodes} nodes gives the job {tasks}", set_value(here, nodes), (unit["nodes"],)
        )


@rule(
    "SL008",
    "one-gpu-in-sight-of-each-task",
    tools=("slurm", "srun"),
    harm="slow",
    severity="warning",
    causes=("slurm-gpu-isolation",),
)
def one_gpu_in_sight_of_each_task(unit: Unit, job: Job) -> Found:
    """Allow one-gpu-in-sight-of-each-task.

    ## What it does
    Looks for `--gpus-per-task=1` with several tasks on a node.

    ## Why is this bad?
    Each task then sees its own GPU alone, as device 0. A script that takes the GPU of its local rank stops with
    "invalid device ordinal", and NCCL loses direct access between the GPUs.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=8
    #SBATCH --gpus-per-task=1
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=8
    #SBATCH --gpus-per-node=8
    srun python train.py
    ```

    ## Versions
    From Slurm 20.11 on; `--gpu-bind=none` undoes it.

    ## References
    - NVIDIA/nccl#1066
    - NVIDIA/nccl#1948
    - NVIDIA/nccl-tests#300
    - deepspeedai/DeepSpeed#3165
    """
    here, tasks = unit.setting("gpus_per_task"), tasks_per_node(unit)
    unbound = any(other.setting("gpu_bind", "tres_bind") is not None for other in (unit, *job.others("srun", "slurm")))
    if (
        here is None
        or unbound
        or str(here.value).rpartition(":")[2] != "1"
        or (tasks or whole(unit, "ntasks") or 1) < 2
    ):
        return
    count = tasks or 0
    nodes = batch_nodes(unit)
    if count < 2 and not (nodes is None or (whole(unit, "ntasks") or 0) > nodes):
        return
    yield Problem(
        here,
        f"{here.shown} hides the GPUs of the other tasks of the node",
        advise("ask for --gpus-per-node, or add --gpu-bind=none"),
    )
