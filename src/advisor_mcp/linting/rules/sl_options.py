"""Options of a Slurm job that are wrong by themselves or against each other."""

import re

from advisor_mcp.linting.edits import Edit, Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._tc import LAUNCHERS, batch_nodes, tasks_per_node, workers
from advisor_mcp.linting.source import Span, line_end, line_start
from advisor_mcp.linting.unit import Setting, Unit

_TIMES = ("-1", "infinite", "unlimited")
_TIME = re.compile(r"\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+|\d+-\d+:\d+|\d+-\d+:\d+:\d+")


@rule(
    "SL020",
    "options-slurm-does-not-read",
    tools=("slurm",),
    harm="ignored",
    severity="warning",
    causes=("slurm-directive-ignored",),
)
def options_slurm_does_not_read(unit: Unit, job: Job) -> Found:
    """Allow options-slurm-does-not-read.

    ## What it does
    Looks for `#SBATCH` lines behind the first command of a script.

    ## Why is this bad?
    sbatch stops reading options at the first command; those behind it are comments.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    module load cuda
    #SBATCH --gpus-per-node=8
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    #SBATCH --gpus-per-node=8
    module load cuda
    srun python train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1
    """
    text, offset, begun = unit.source.text, 0, False
    for line in text.splitlines(keepends=True):
        plain = line.strip()
        if plain.startswith("#SBATCH") and begun:
            span = Span(unit.source, offset + line.index("#"), offset + len(line.rstrip()))
            option = plain.split("#")[1].split()[-1] if len(plain.split()) > 1 else plain
            message = f"{option} stands behind the first command, where sbatch does not read it"
            yield Problem(span, message, advise("move it above"))
        elif plain and not plain.startswith("#"):
            begun = True
        offset += len(line)


@rule("SL021", "options-that-exclude-each-other", tools=("slurm", "srun"), harm="crash", causes=("slurm-conflict",))
def options_that_exclude_each_other(unit: Unit, job: Job) -> Found:
    """Allow options-that-exclude-each-other.

    ## What it does
    Looks for pairs that Slurm does not take together: several of `--mem`, `--mem-per-cpu` and `--mem-per-gpu`;
    `--gres=gpu` beside `--gpus-per-node`; `--ntasks-per-gpu` beside `--ntasks-per-node` or `--gpus-per-task`;
    `--exclusive` beside `--oversubscribe`.

    ## Why is this bad?
    The job is refused, or one of the two is not used.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --mem=200G
    #SBATCH --mem-per-cpu=4G
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --mem=200G
    srun python train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1
    """
    pairs = (
        ("mem", "mem_per_cpu"), ("mem", "mem_per_gpu"), ("mem_per_cpu", "mem_per_gpu"), ("ntasks_per_node", "ntasks_per_gpu"),
        ("gpus_per_task", "ntasks_per_gpu"), ("exclusive", "oversubscribe"), ("gpus_per_node", "gres"),
    )  # fmt: skip
    for kept, dropped in pairs:
        first, second = unit.setting(kept), unit.setting(dropped)
        if first is None or second is None or (dropped == "gres" and "gpu" not in str(second.value)):
            continue
        same = dropped == "gres" and str(second.value).rpartition(":")[2] == str(first.value).rpartition(":")[2]
        fix = remove(second) if unit.tool == "srun" else _without_line(second)
        yield Problem(
            second,
            f"{second.shown} and {first.shown} exclude each other",
            fix,
            (first,),
            severity="info" if same else None,
        )


def _without_line(setting: Setting) -> Fix:
    """Delete the whole `#SBATCH` line of an option."""
    text, source = setting.key.source.text, setting.key.source
    start, end = line_start(text, setting.key.start), line_end(text, setting.key.end)
    return Fix(f"remove {setting.written}", (Edit(source, start, end, ""),))


@rule("SL022", "time-slurm-cannot-read", tools=("slurm", "srun"), harm="crash", causes=("slurm-time-format",))
def time_slurm_cannot_read(unit: Unit, job: Job) -> Found:
    """Allow time-slurm-cannot-read.

    ## What it does
    Checks the form of `--time`: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS.

    ## Why is this bad?
    Another form is refused ("Invalid --time specification"). And `24:00` is 24 minutes.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --time=24h
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --time=24:00:00
    srun python train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --time
    - SchedMD/slurm 284c3b95, src/common/parse_time.c
    """
    here = unit.setting("time", "time_min")
    if here is None or not isinstance(here.value, str):
        return
    value = here.value
    if not _TIME.fullmatch(value) and value.lower() not in _TIMES:
        hours = re.fullmatch(r"(\d+)\s*(h|hr|hrs|hours?)", value, re.IGNORECASE)
        days = re.fullmatch(r"(\d+)\s*(d|days?)", value, re.IGNORECASE)
        fix = (
            set_value(here, f"{hours[1]}:00:00")
            if hours
            else set_value(here, f"{days[1]}-00")
            if days
            else advise("write D-HH:MM:SS")
        )
        yield Problem(here, f"{here.shown} is no time that Slurm reads", fix)
    elif re.fullmatch(r"(0?[1-9]|1\d|24|36|48|72|96):00", value):
        yield Problem(
            here,
            f"{here.shown} is {value.split(':')[0]} minutes, not hours",
            set_value(here, value + ":00"),
            severity="info",
        )


@rule("SL023", "warning-nobody-hears", tools=("slurm",), harm="lost_work", severity="warning", causes=("slurm-signal",))
def warning_nobody_hears(unit: Unit, job: Job) -> Found:
    """Allow warning-nobody-hears.

    ## What it does
    Looks for `--signal` without `B:` in a script that waits for the signal with `trap`.

    ## Why is this bad?
    Without `B:` the signal goes to the job steps, not to the batch script: its trap never runs, and what it should save
    or requeue is lost.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --signal=USR1@120
    trap 'scontrol requeue $SLURM_JOB_ID' USR1
    srun python train.py &
    wait
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --signal=B:USR1@120
    trap 'scontrol requeue $SLURM_JOB_ID' USR1
    srun python train.py &
    wait
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --signal
    """
    here = unit.setting("signal")
    if here is None or not isinstance(here.value, str) or ("B" in here.value.partition(":")[0] and ":" in here.value):
        return
    name = here.value.rpartition(":")[2].partition("@")[0].removeprefix("SIG")
    if re.search(rf"^\s*trap\s.*\b(SIG)?{re.escape(name)}\b", unit.source.text, re.MULTILINE):
        yield Problem(
            here,
            f"{here.shown} is not sent to the batch script, which waits for it",
            set_value(here, f"B:{here.value}"),
        )


@rule(
    "SL024",
    "environment-left-behind",
    tools=("slurm", "srun"),
    harm="crash",
    severity="warning",
    causes=("slurm-export",),
)
def environment_left_behind(unit: Unit, job: Job) -> Found:
    """Allow environment-left-behind.

    ## What it does
    Looks for `--export=NAME=VALUE` without `ALL`, and for `srun --export=NONE`.

    ## Why is this bad?
    Only what is named is passed on: PATH, the conda environment and every NCCL setting stay behind.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    export NCCL_SOCKET_IFNAME==bond0
    srun --export=HF_HOME=/data python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=2
    export NCCL_SOCKET_IFNAME==bond0
    srun --export=ALL,HF_HOME=/data python train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/srun.1, --export
    """
    here = unit.setting("export")
    if here is None or not isinstance(here.value, str):
        return
    names = here.value.split(",")
    if "ALL" not in names and (unit.tool == "srun" or "=" in here.value) and here.value not in ("NIL",):
        yield Problem(
            here,
            f"{here.shown} passes nothing else of the environment on",
            set_value(here, "ALL," + here.value) if here.value != "NONE" else set_value(here, "ALL"),
        )


@rule("SL025", "no-gpus-taken", tools=("slurm",), harm="crash", severity="warning", causes=("slurm-gpus-missing",))
def no_gpus_taken(unit: Unit, job: Job) -> Found:
    """Allow no-gpus-taken.

    ## What it does
    Looks for a batch job that starts several processes a node with torchrun and asks for no GPUs, on nodes it shares.

    ## Why is this bad?
    Where GPUs are handed out, the job sees none: "No CUDA GPUs are available".

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=1
    #SBATCH --cpus-per-task=32
    srun torchrun --standalone --nproc_per_node 8 train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --ntasks-per-node=1
    #SBATCH --cpus-per-task=32
    #SBATCH --gpus-per-node=8
    srun torchrun --standalone --nproc_per_node 8 train.py
    ```

    ## Versions
    All. Not where whole nodes are given out (`--exclusive`, or a partition that does so).

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --gpus-per-node
    """
    asks = [
        name
        for one in (unit, *job.others("srun"))
        for name in one.settings
        if name.startswith(("gpus", "gres", "tres", "exclusive")) or name == "ntasks_per_gpu"
    ]
    started = [
        other for other in job.others(*LAUNCHERS) if other.source.root is unit.source and (workers(other) or 0) > 1
    ]
    opened = any(one.open for one in job.others("srun"))
    if (
        not asks
        and started
        and not opened
        and unit.setting("cpus_per_task", "ntasks_per_node") is not None
        and unit.setting("array") is None
    ):
        yield Problem(
            unit,
            f"{workers(started[0])} processes are started, and no GPUs asked for",
            advise("add #SBATCH --gpus-per-node"),
        )


@rule(
    "SL026",
    "memory-of-an-exclusive-node",
    tools=("slurm",),
    harm="oom",
    severity="info",
    causes=("slurm-exclusive-mem",),
)
def memory_of_an_exclusive_node(unit: Unit, job: Job) -> Found:
    """Allow memory-of-an-exclusive-node.

    ## What it does
    Looks for `--exclusive` without a memory request.

    ## Why is this bad?
    An exclusive job gets all CPUs and GPUs of its nodes, but only the partition's default memory: data loaders and
    checkpoints can be killed on a node that is otherwise empty. `--mem=0` asks for all of it.

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --exclusive
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --exclusive
    #SBATCH --mem=0
    srun python train.py
    ```

    ## Versions
    All.

    ## References
    - SchedMD/slurm 284c3b95, doc/man/man1/sbatch.1, --exclusive
    """
    here = unit.setting("exclusive")
    if here is not None and unit.setting("mem", "mem_per_cpu", "mem_per_gpu") is None:
        yield Problem(here, "an exclusive job gets the default memory only", advise("add #SBATCH --mem=0"))


@rule("SL027", "one-port-for-every-job", tools=("slurm",), harm="crash", severity="info", causes=("slurm-fixed-port",))
def one_port_for_every_job(unit: Unit, job: Job) -> Found:
    """Allow one-port-for-every-job.

    ## What it does
    Looks for a fixed rendezvous port in a job that shares its nodes.

    ## Why is this bad?
    Two of these jobs on one node cannot both listen: "address already in use".

    ## Example
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --gres=gpu:2
    export MASTER_PORT=29500
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --gres=gpu:2
    export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
    srun python train.py
    ```

    ## Versions
    All.

    ## References
    - huggingface/accelerate#2246
    - NVIDIA/enroot#243
    - catalyst-team/catalyst#716
    """
    if unit.setting("exclusive") is not None:
        return
    for other in job.units:
        here = (
            other.setting("MASTER_PORT")
            if other.tool == "env"
            else other.setting("master_port", "main_process_port")
            if other.tool in LAUNCHERS
            else None
        )
        if here is not None and other.source.root is unit.source and str(here.value).isdigit():
            yield Problem(
                here,
                f"{here.shown} is the same for every job that shares the node",
                advise("derive it from $SLURM_JOB_ID"),
            )
            return


@rule(
    "SL028",
    "cpus-srun-does-not-inherit",
    tools=("slurm",),
    harm="slow",
    severity="warning",
    causes=("slurm-srun-cpus",),
)
def cpus_srun_does_not_inherit(unit: Unit, job: Job) -> Found:
    """Allow cpus-srun-does-not-inherit.

    ## What it does
    Looks for `--cpus-per-task` of a batch job that `srun` is not told again.

    ## Why is this bad?
    Slurm 22.05 to 23.02 do not pass it on: every task is bound to one CPU. `SRUN_CPUS_PER_TASK` or the option on srun
    passes it.

    ## Example
    ```bash job.sbatch slurm=22.05
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --cpus-per-task=32
    srun python train.py
    ```

    ## Use instead
    ```bash job.sbatch slurm=22.05
    #!/bin/bash
    #SBATCH --nodes=1
    #SBATCH --cpus-per-task=32
    srun --cpus-per-task=32 python train.py
    ```

    ## Versions
    Slurm 22.05 to 23.02; an information where the version is not named.

    ## References
    - snakemake/snakemake-executor-plugin-slurm#41
    - reframe-hpc/reframe#2655
    - ULHPC/ulhpc-docs#55
    """
    here = unit.setting("cpus_per_task")
    if here is None or (unit.version is not None and not (22, 5) <= unit.version < (23, 11)):
        return
    for step in job.others("srun"):
        told = (
            "cpus_per_task" in step
            or "SRUN_CPUS_PER_TASK" in step.env
            or step.open
            or "SRUN_CPUS_PER_TASK" in unit.source.text
        )
        if not told and step.launcher is unit and (batch_nodes(unit) or tasks_per_node(unit) or 1) and step.arguments:
            yield Problem(
                here,
                f"{here.shown} is not passed on to srun by Slurm 22.05 to 23.02",
                advise("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"),
                (step.span,),
                severity=None if unit.version else "info",
            )
            return
