"""accelerate's configuration: processes, machines and number formats."""

from __future__ import annotations

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._ft import idle, used
from advisor_mcp.linting.unit import Unit

PRECISIONS = ("no", "fp16", "bf16", "fp8")


def _gpu_ids(unit: Unit) -> list[str] | None:
    ids = unit.text("gpu_ids")
    return None if not ids or ids == "all" else [part for part in ids.split(",") if part.strip()]


@rule(
    "AC101",
    "one-gpu-for-several-processes",
    tools=("accelerate",),
    harm="crash",
    causes=("accelerate-multigpu-1", "accelerate-gpu-ids"),
)
def one_gpu_for_several_processes(unit: Unit, job: Job) -> Found:
    """Allow one-gpu-for-several-processes.

    ## What it does
    Finds `gpu_ids` that name fewer GPUs than a machine has processes, and a single one with `distributed_type: MULTI_GPU`.

    ## Why is this bad?
    accelerate stops: "Less than two GPU ids were configured and tried to run on multiple GPUs"; with two or more, the
    processes beyond them fail with "invalid device ordinal".

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    gpu_ids: '0'
    num_machines: 1
    num_processes: 2
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    gpu_ids: all
    num_machines: 1
    num_processes: 2
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, commands/launch.py, _validate_launch_command
    """
    ids, processes, machines = _gpu_ids(unit), unit.number("num_processes", 1), unit.number("num_machines", 1)
    if ids is None or not processes or not machines or unit.on("use_cpu"):
        return
    multi = unit.text("distributed_type") == "MULTI_GPU" and machines <= 1
    if (multi and len(ids) < 2) or len(ids) < processes // machines:
        setting = unit["gpu_ids"]
        also = tuple(unit[name] for name in ("num_processes", "distributed_type") if name in unit)
        yield Problem(
            setting,
            f"{setting.shown} names {len(ids)} GPU for {int(processes // machines)} processes",
            set_value(setting, "all"),
            also,
        )


@rule(
    "AC102",
    "processes-of-one-machine",
    tools=("accelerate",),
    harm="wrong_batch",
    severity="warning",
    causes=("machines-gt-processes",),
)
def processes_of_one_machine(unit: Unit, job: Job) -> Found:
    """Allow processes-of-one-machine.

    ## What it does
    Finds `num_processes` that is not the total over all machines: no multiple of `num_machines`, or fewer than the GPUs
    of the machines.

    ## Why is this bad?
    accelerate divides it by the machines: 8 processes on 4 machines start 2 on each, and the other GPUs stay idle; a
    remainder is dropped.

    ## Example
    ```yaml accelerate.yaml gpus_per_node=8
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    num_machines: 4
    num_processes: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml gpus_per_node=8
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    num_machines: 4
    num_processes: 32
    ```

    ## Versions
    All.

    ## References
    - https://huggingface.co/docs/accelerate/basic_tutorials/launch
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    """
    machines, processes = unit.whole("num_machines", 1), unit.whole("num_processes")
    if not machines or machines < 2 or not processes:
        return
    setting, also, gpus = unit["num_processes"], (unit["num_machines"],), job.gpus_per_node
    if processes % machines:
        fix = set_value(setting, (processes // machines or 1) * machines)
        yield Problem(
            setting, f"{setting.shown} in all cannot be dealt out over {machines} machines", fix, also, "error"
        )
    elif gpus is None:
        yield Skipped("the GPUs of a node")
    elif processes < machines * gpus and _gpu_ids(unit) is None:
        said = f"{setting.shown} is the total: {processes // machines} on each of {machines} machines with {gpus} GPUs"
        yield Problem(setting, said, set_value(setting, machines * gpus), also)


@rule(
    "AC104",
    "several-processes-without-distribution",
    tools=("accelerate",),
    harm="ignored",
    severity="warning",
    causes=("accelerate-single-process",),
)
def several_processes_without_distribution(unit: Unit, job: Job) -> Found:
    """Allow several-processes-without-distribution.

    ## What it does
    Finds `num_processes` above 1 with `distributed_type: NO`.

    ## Why is this bad?
    Without a distributed type accelerate starts the script once; the other GPUs stay idle.

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: 'NO'
    num_machines: 1
    num_processes: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    num_machines: 1
    num_processes: 8
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, commands/launch.py, launch_command
    """
    kind, processes = unit.text("distributed_type"), unit.number("num_processes", 1)
    if (
        kind in ("NO", "false")
        and processes
        and processes > 1
        and not used(unit, "tpu_use_cluster", "mpirun_config", "use_cpu")
    ):
        setting = unit["distributed_type"]
        yield Problem(
            setting,
            f"{setting.shown} starts one process, and num_processes is {processes:g}",
            set_value(setting, "MULTI_GPU"),
            (unit["num_processes"],),
        )


@rule(
    "AC106",
    "machine-beyond-the-last",
    tools=("accelerate",),
    harm="hang",
    severity="error",
    causes=("accelerate-machine-rank",),
)
def machine_beyond_the_last(unit: Unit, job: Job) -> Found:
    """Allow machine-beyond-the-last.

    ## What it does
    Finds a `machine_rank` that is not below `num_machines`.

    ## Why is this bad?
    Ranks count from 0: the rendezvous waits for a machine that does not exist, or refuses this one.

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    main_process_ip: 10.0.0.1
    machine_rank: 2
    num_machines: 2
    num_processes: 16
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    main_process_ip: 10.0.0.1
    machine_rank: 1
    num_machines: 2
    num_processes: 16
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    - torch 2.13, torch/distributed/run.py
    """
    rank, machines = unit.whole("machine_rank", 0), unit.whole("num_machines", 1)
    if rank is not None and machines is not None and rank >= machines and rank > 0:
        setting = unit["machine_rank"]
        yield Problem(
            setting,
            f"{setting.shown}, and {machines} machines have the ranks 0 to {machines - 1}",
            set_value(setting, machines - 1),
        )


@rule(
    "AC107",
    "no-address-of-the-first-machine",
    tools=("accelerate",),
    harm="hang",
    severity="info",
    causes=("accelerate-main-ip",),
)
def no_address_of_the_first_machine(unit: Unit, job: Job) -> Found:
    """Allow no-address-of-the-first-machine.

    ## What it does
    Finds several machines without `main_process_ip`, in the file and on the launch line beside it.

    ## Why is this bad?
    Each machine then looks for the others at the address "None" and the launch never comes together.

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    num_machines: 2
    num_processes: 16
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    main_process_ip: 10.0.0.1
    main_process_port: 29500
    num_machines: 2
    num_processes: 16
    ```

    ## Versions
    All. Cluster scripts usually pass it as `--main_process_ip`.

    ## References
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    """
    machines, launches = unit.number("num_machines", 1), job.others("accelerate_launch")
    if (
        not machines
        or machines < 2
        or not idle(unit, "main_process_ip")
        or used(unit, "deepspeed_config.deepspeed_hostfile", "mpirun_config")
    ):
        return
    if any(launch.open or "main_process_ip" in launch for launch in launches):
        return
    yield Problem(
        unit["num_machines"],
        f"{unit['num_machines'].shown} without main_process_ip",
        advise("set main_process_ip and main_process_port"),
        severity="error" if launches else None,
    )


@rule(
    "AC108",
    "unknown-mixed-precision",
    tools=("accelerate", "accelerate_launch"),
    harm="crash",
    causes=("accelerate-precision",),
)
def unknown_mixed_precision(unit: Unit, job: Job) -> Found:
    """Allow unknown-mixed-precision.

    ## What it does
    Finds a `mixed_precision` other than no, fp16, bf16 and fp8.

    ## Why is this bad?
    accelerate stops: "Unknown mixed_precision mode: bfloat16. Choose between ['no', 'fp8', 'fp16', 'bf16']."

    ## Example
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    mixed_precision: bfloat16
    num_processes: 8
    ```

    ## Use instead
    ```yaml accelerate.yaml
    compute_environment: LOCAL_MACHINE
    distributed_type: MULTI_GPU
    mixed_precision: bf16
    num_processes: 8
    ```

    ## Versions
    All.

    ## References
    - accelerate 1.15.0, utils/launch.py, prepare_multi_gpu_env
    """
    if "mixed_precision" not in unit or isinstance(unit["mixed_precision"].value, bool):
        return
    text, setting = unit.text("mixed_precision"), unit["mixed_precision"]
    if text is None or text.lower() in PRECISIONS:
        return
    meant = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp32": "no", "float32": "no"}.get(text.lower())
    fix = set_value(setting, meant) if meant else advise(f"use one of {', '.join(PRECISIONS)}")
    yield Problem(setting, f"{setting.shown} is none of {', '.join(PRECISIONS)}", fix)
