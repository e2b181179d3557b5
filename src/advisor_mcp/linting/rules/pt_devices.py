"""Variables that give a process its GPUs, its threads and its cuBLAS workspace."""

import re

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._tc import LAUNCHERS, tasks_per_node, whole, workers
from advisor_mcp.linting.unit import Unit

DEVICE = re.compile(r"\d+|(GPU|MIG)-[0-9A-Za-z/-]+|-1")


def _wrong(value: str) -> tuple[str, str | None] | None:
    """What CUDA makes of a device list that it does not read as meant, and the list that was meant."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    span = re.fullmatch(r"(\d+)\s*(?:-|\.\.|:)\s*(\d+)", value.strip())
    if span and int(span[1]) < int(span[2]) < 64:
        return "CUDA knows no ranges and takes the first number only", ",".join(
            str(n) for n in range(int(span[1]), min(int(span[2]), int(span[1]) + 1024) + 1)
        )
    if re.fullmatch(r"\d+([\s;]+\d+)+", value.strip()):
        return "CUDA wants commas and takes the first number only", ",".join(re.split(r"[\s;]+", value.strip()))
    if value.strip().lower() in ("all", "auto", "*"):
        return "CUDA knows no such word and shows no GPU at all", None
    if len(set(parts)) < len(parts) and all(DEVICE.fullmatch(part) for part in parts):
        return "CUDA shows no GPU at all where one is named twice", ",".join(dict.fromkeys(parts))
    return None


@rule("PT030", "device-list-misread", tools=("env",), harm="crash", causes=("cuda-visible-devices",))
def device_list_misread(unit: Unit, job: Job) -> Found:
    """Allow device-list-misread.

    ## What it does
    Checks that `CUDA_VISIBLE_DEVICES` is a list with commas, without ranges, words and repeated devices.

    ## Why is this bad?
    CUDA reads a number at the start of each part and stops at the first part that names no device. `0-3` is GPU 0 alone;
    `all` and a device named twice are no GPU.

    ## Example
    ```bash launch.sh
    export CUDA_VISIBLE_DEVICES=0-3
    torchrun --standalone --nproc_per_node=4 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export CUDA_VISIBLE_DEVICES=0,1,2,3
    torchrun --standalone --nproc_per_node=4 train.py
    ```

    ## Versions
    All.

    ## References
    - pytorch/pytorch#84879
    - pytorch/pytorch#90543
    - CUDA C++ Programming Guide, environment variables
    """
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        wrong = _wrong(unit.text(name, "") or "")
        if wrong is not None:
            here = unit[name]
            reason, meant = wrong
            fix = set_value(here, meant) if meant else remove(here, why="every GPU is visible without it")
            yield Problem(here, f"{here.shown}: {reason}", fix)


@rule("PT031", "more-threads-than-processors", tools=("env",), harm="slow", severity="warning", causes=("omp-threads",))
def more_threads_than_processors(unit: Unit, job: Job) -> Found:
    """Allow more-threads-than-processors.

    ## What it does
    Compares `OMP_NUM_THREADS` times the processes of a task with the processors that Slurm gives to it.

    ## Why is this bad?
    Each process starts that many threads, and more of them than processors wait for each other: data loading and the
    optimiser's work on the CPU slow down.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=8
    #SBATCH --cpus-per-task=64
    export OMP_NUM_THREADS=64
    srun torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=1
    #SBATCH --gpus-per-node=8
    #SBATCH --cpus-per-task=64
    export OMP_NUM_THREADS=8
    srun torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - pytorch/pytorch#22260
    - torch 2.13.0, torch/distributed/run.py, which sets 1 where the variable is not set
    """
    threads = unit.number("OMP_NUM_THREADS")
    batch = next(
        (other for other in job.units if other.tool == "slurm" and other.source.root is unit.source.root), None
    )
    if not threads or batch is None:
        return
    processors = whole(batch, "cpus_per_task")
    starters = [other for other in job.units if other.tool in LAUNCHERS and other.source.root is unit.source.root]
    counts = [workers(other) for other in starters] if starters else [1 if tasks_per_node(batch) else None]
    if processors is None or any(count is None for count in counts):
        return
    most = max(count for count in counts if count is not None)
    if threads * most > processors and threads > 1:
        here, given = unit["OMP_NUM_THREADS"], batch["cpus_per_task"]
        each = f"each of {most} processes" if most > 1 else "one process"
        message = f"{here.shown} in {each} is {int(threads * most)} threads on {processors} processors"
        yield Problem(here, message, set_value(here, max(1, processors // most)), (given,))


@rule("PT032", "workspace-unreadable", tools=("env",), harm="ignored", severity="warning", causes=("cublas-workspace",))
def workspace_unreadable(unit: Unit, job: Job) -> Found:
    """Allow workspace-unreadable.

    ## What it does
    Checks that `CUBLAS_WORKSPACE_CONFIG` is `:size:count`, with the colon at the start.

    ## Why is this bad?
    cuBLAS ignores another form: results may differ from run to run, and a torch that checks the variable (2.9 does) stops at
    the first product of matrices when deterministic algorithms are asked for.

    ## Example
    ```bash launch.sh
    export CUBLAS_WORKSPACE_CONFIG=4096:8
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export CUBLAS_WORKSPACE_CONFIG=:4096:8
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All; torch 2.13 no longer checks the variable.

    ## References
    - pytorch/pytorch#41377
    - pytorch/pytorch#161749
    """
    value = unit.text("CUBLAS_WORKSPACE_CONFIG", "") or ""
    if value and not re.fullmatch(r"(:\d+:\d+)+", value.strip()):
        here = unit["CUBLAS_WORKSPACE_CONFIG"]
        fix = set_value(here, ":" + value) if re.fullmatch(r"\d+:\d+", value) else advise("write :4096:8")
        yield Problem(here, f"{here.shown}, but cuBLAS reads :size:count", fix)
