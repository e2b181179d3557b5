"""Switches of torch and CUDA that find faults and cost speed, and those of torch's NCCL backend."""

from advisor_mcp.linting.edits import remove, rename
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.options import table, tools
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.unit import Setting, Unit, as_truth

RENAMED = (
    "NCCL_ASYNC_ERROR_HANDLING", "NCCL_BLOCKING_WAIT", "NCCL_DESYNC_DEBUG", "NCCL_ENABLE_TIMING",
    "NCCL_USE_TENSOR_REGISTER_ALLOCATOR_HOOK",
)  # fmt: skip
# Values that mean the switch is on, the severity and what it does to a run.
LEFT_ON: dict[str, tuple[Severity, str]] = {
    "PYTORCH_NO_CUDA_MEMORY_CACHING": ("warning", "asks the driver for every tensor's memory"),
    "TORCH_NCCL_DESYNC_DEBUG": ("warning", "records every collective of every rank in the store"),
    "TORCH_NCCL_NAN_CHECK": ("info", "looks through every tensor before it is sent"),
    "TORCH_COMPILE_DEBUG": ("info", "writes everything that the compiler makes to the disk"),
    "TORCHDYNAMO_DISABLE": ("info", "turns torch.compile off"),
    "TORCH_COMPILE_DISABLE": ("info", "turns torch.compile off"),
    "NVTE_DEBUG": ("info", "makes Transformer Engine log every call"),
}  # fmt: skip


def _on(unit: Unit, name: str) -> Setting | None:
    return unit[name] if unit.truth(name) is True else None


def _renamed(unit: Unit) -> dict[str, str]:
    """Old names that are set, and the new ones: those of 2.2, and later ones where the named torch has the new name."""
    found = {name: f"TORCH_{name}" for name in RENAMED if name in unit}
    if unit.target and "pytorch" in tools():
        known = table("pytorch").options("env", unit.target)
        for name in unit.settings:
            new = known[name].renamed_to if name in known else None
            if new is not None and new in known:
                found[name] = new
    return found


@rule(
    "PT020",
    "torch-variable-by-its-old-name",
    tools=("env",),
    harm="deprecated",
    severity="warning",
    causes=("nccl-env-renamed",),
)
def torch_variable_by_its_old_name(unit: Unit, job: Job) -> Found:
    """Allow torch-variable-by-its-old-name.

    ## What it does
    Looks for the variables of torch's NCCL backend under the names that they had before torch 2.2, without `TORCH_`, and for
    later renamings where the version of torch is named.

    ## Why is this bad?
    Every rank warns that the name is deprecated. Newer switches have no such second name, and where both are set the new one
    counts.

    ## Example
    ```bash launch.sh
    export NCCL_ASYNC_ERROR_HANDLING=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export TORCH_NCCL_ASYNC_ERROR_HANDLING=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    torch 2.2 and later; the option table has the versions of other renamings.

    ## References
    - ray-project/ray#47292
    - pytorch/pytorch#132920
    - torch 2.13.0, torch/include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp
    """
    if unit.before("2.2"):
        return
    for name, new in _renamed(unit).items():
        if name == "NCCL_BLOCKING_WAIT" and unit.truth(name) is True:
            continue  # a rule of its own
        here, other = unit[name], unit.setting(new)
        if other is not None:
            fix = remove(here, safe=True, why=f"{new} is set")
            yield Problem(here, f"{name} is called {new} in this torch, and that is set too", fix, (other,))
        else:
            yield Problem(here, f"{name} is called {new} in this torch", rename(here, new))


@rule(
    "PT021",
    "waiting-for-every-collective",
    tools=("env",),
    harm="slow",
    severity="warning",
    causes=("blocking-wait", "nccl-env-renamed"),
)
def waiting_for_every_collective(unit: Unit, job: Job) -> Found:
    """Allow waiting-for-every-collective.

    ## What it does
    Looks for `TORCH_NCCL_BLOCKING_WAIT=1`, also by its old name.

    ## Why is this bad?
    The process waits for each collective before it does anything else, so that nothing overlaps; users measured three times
    the duration. It also takes the place of the asynchronous handling of errors, which finds a hang without that price.

    ## Example
    ```bash launch.sh
    export NCCL_BLOCKING_WAIT=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - pytorch/pytorch#50820
    - pytorch/pytorch#32162
    """
    for name in ("TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT"):
        here = _on(unit, name)
        if here is not None:
            why = "torch aborts collectives that hang without it"
            yield Problem(here, f"{here.shown} makes the process wait for every collective", remove(here, why=why))


@rule(
    "PT022",
    "hanging-collectives-not-aborted",
    tools=("env",),
    harm="hang",
    severity="warning",
    causes=("nccl-async-off",),
)
def hanging_collectives_not_aborted(unit: Unit, job: Job) -> Found:
    """Allow hanging-collectives-not-aborted.

    ## What it does
    Looks for `TORCH_NCCL_ASYNC_ERROR_HANDLING=0` (a warning) and `TORCH_NCCL_ENABLE_MONITORING=0` (information).

    ## Why is this bad?
    When one rank fails, the others wait for it and nothing ends them: the job holds its GPUs until somebody looks.

    ## Example
    ```bash launch.sh
    export TORCH_NCCL_ASYNC_ERROR_HANDLING=0
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All; the default is 3 since torch 2.2.

    ## References
    - pytorch/pytorch#110723
    - pytorch/pytorch#115577
    """
    handling = unit.setting("TORCH_NCCL_ASYNC_ERROR_HANDLING", "NCCL_ASYNC_ERROR_HANDLING")
    if (
        handling is not None
        and unit.number(handling.name) == 0
        and not any(_on(unit, n) for n in ("TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT"))
    ):
        yield Problem(handling, f"{handling.shown} leaves ranks waiting for one that failed", remove(handling))
    if unit.number("TORCH_NCCL_ENABLE_MONITORING") == 0:
        here = unit["TORCH_NCCL_ENABLE_MONITORING"]
        message = f"{here.shown} turns off what ends a process whose watchdog hangs"
        yield Problem(
            here,
            message,
            remove(here, why="a longer TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC is the milder way"),
            severity="info",
        )


@rule("PT023", "every-launch-waits", tools=("env",), harm="slow", severity="warning", causes=("cuda-launch-blocking",))
def every_launch_waits(unit: Unit, job: Job) -> Found:
    """Allow every-launch-waits.

    ## What it does
    Looks for `CUDA_LAUNCH_BLOCKING=1`.

    ## Why is this bad?
    Each kernel is waited for before the next one starts: no overlap of computing and communication, and idle GPUs whenever
    kernels are short. With NCCL before 2.17 it can hang. It is for finding the line of an error.

    ## Example
    ```bash launch.sh
    export CUDA_LAUNCH_BLOCKING=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/nccl#750
    - pytorch/pytorch#9163
    """
    found = unit.number("CUDA_LAUNCH_BLOCKING")
    if found:
        here = unit["CUDA_LAUNCH_BLOCKING"]
        yield Problem(here, f"{here.shown} waits for every kernel before the next one starts", remove(here))


@rule("PT024", "debugging-left-on", tools=("env",), harm="slow", severity="warning", causes=("torch-debug-left-on",))
def debugging_left_on(unit: Unit, job: Job) -> Found:
    """Allow debugging-left-on.

    ## What it does
    Looks for switches of torch that are for finding faults: `TORCH_DISTRIBUTED_DEBUG=DETAIL`,
    `PYTORCH_NO_CUDA_MEMORY_CACHING=1`, `TORCH_NCCL_DESYNC_DEBUG=1` and, as information, a few smaller ones.

    ## Why is this bad?
    DETAIL compares each collective over all ranks on the CPU before it starts. Without the cache of the allocator a small
    model's forward pass took three times and its backward pass five times as long.

    ## Example
    ```bash launch.sh
    export TORCH_DISTRIBUTED_DEBUG=DETAIL
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0 documentation, distributed, "Debugging torch.distributed applications"
    - chelsea0x3b/dfdx#678
    - pytorch/pytorch#148976
    """
    if (unit.text("TORCH_DISTRIBUTED_DEBUG", "") or "").upper() == "DETAIL":
        here = unit["TORCH_DISTRIBUTED_DEBUG"]
        yield Problem(here, f"{here.shown} compares every collective over all ranks before it starts", remove(here))
    for name, (severity, effect) in LEFT_ON.items():
        if name in unit and as_truth(unit[name].value) is True:
            yield Problem(unit[name], f"{unit[name].shown} {effect}", remove(unit[name]), severity=severity)
