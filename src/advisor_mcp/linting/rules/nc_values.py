"""Variables of NCCL with values or names that it does not take, and debugging left on."""

from advisor_mcp.linting.edits import advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._nc import NAMES, PLUGINS, known_names
from advisor_mcp.linting.rules._options import typo
from advisor_mcp.linting.unit import Unit

LEVELS = ("VERSION", "WARN", "INFO", "ABORT", "TRACE")
ALGORITHMS = ("tree", "ring", "collnetdirect", "collnetchain", "nvls", "nvlstree", "pat")
PROTOCOLS = ("ll", "ll128", "simple")
FUNCTIONS = ("broadcast", "reduce", "allgather", "reducescatter", "allreduce")
TIMEOUTS = (
    "NCCL_TIMEOUT", "NCCL_TIMEOUT_S", "NCCL_TIMEOUT_MS", "NCCL_COMM_TIMEOUT", "NCCL_SOCKET_TIMEOUT", "TORCH_NCCL_TIMEOUT",
    "TORCH_NCCL_TIMEOUT_SEC", "TORCH_NCCL_WATCHDOG_TIMEOUT_SEC", "TORCH_DISTRIBUTED_TIMEOUT", "TORCH_DISTRIBUTED_DEFAULT_TIMEOUT",
    "DIST_TIMEOUT", "PYTORCH_NCCL_TIMEOUT",
)  # fmt: skip


@rule("NC020", "log-of-every-call", tools=("env",), harm="slow", severity="warning", causes=("nccl-debug-left-on",))
def log_of_every_call(unit: Unit, job: Job) -> Found:
    """Allow log-of-every-call.

    ## What it does
    Reports `NCCL_DEBUG=TRACE`, and INFO with every subsystem or with collectives, as warnings; plain INFO as information.

    ## Why is this bad?
    Each rank writes a line for each collective or more. NVIDIA's guide asks not to keep the debugging variables in scripts.

    ## Example
    ```bash launch.sh
    export NCCL_DEBUG=INFO
    export NCCL_DEBUG_SUBSYS=ALL
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_DEBUG=WARN
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA NCCL user guide, environment variables, "Debugging"
    """
    level = (unit.text("NCCL_DEBUG", "") or "").upper()
    if level not in ("INFO", "TRACE"):
        return
    here = unit["NCCL_DEBUG"]
    parts = {part.strip().upper() for part in (unit.text("NCCL_DEBUG_SUBSYS", "") or "").lstrip("^").split(",")}
    excluded = (unit.text("NCCL_DEBUG_SUBSYS", "") or "").startswith("^")
    many = parts & {"ALL", "COLL"} and not excluded
    if "NCCL_DEBUG_FILE" in unit and not many and level == "INFO":
        return
    loud = level == "TRACE" or bool(many)
    also = (unit["NCCL_DEBUG_SUBSYS"],) if many else ()
    what = "every call of every rank" if loud else "the start of every communicator of every rank"
    yield Problem(
        here, f"{here.shown} logs {what}", set_value(here, "WARN"), also, severity="warning" if loud else "info"
    )


@rule("NC021", "log-level-unknown", tools=("env",), harm="ignored", severity="warning", causes=("nccl-debug-value",))
def log_level_unknown(unit: Unit, job: Job) -> Found:
    """Allow log-level-unknown.

    ## What it does
    Checks that `NCCL_DEBUG` is VERSION, WARN, INFO, ABORT or TRACE.

    ## Why is this bad?
    Another word is taken for nothing: no message appears, the reason of a failure is lost.

    ## Example
    ```bash launch.sh
    export NCCL_DEBUG=WARNING
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_DEBUG=WARN
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/nccl 5067397c, src/debug.cc, ncclDebugInit
    """
    level = unit.text("NCCL_DEBUG", "WARN")
    if level and level.upper() not in LEVELS:
        here = unit["NCCL_DEBUG"]
        meant = "WARN" if level.upper() in ("WARNING", "ERROR", "0", "1") else "INFO"
        yield Problem(here, f"{here.shown}, but NCCL knows {', '.join(LEVELS)} only", set_value(here, meant))


def _unknown(value: str, known: tuple[str, ...], functions: tuple[str, ...] = FUNCTIONS) -> str | None:
    """The first word of a list such as ``^ring,tree`` or ``allreduce:tree;allgather:ring`` that NCCL refuses."""
    for entry in filter(None, value.split(";")):
        function, colon, listed = entry.rpartition(":")
        if colon and function.strip().lower() not in functions:
            return function
        for word in filter(None, listed.removeprefix("^").split(",")):
            if word.strip().lower() not in known:
                return word
    return None


@rule("NC022", "algorithm-unknown", tools=("env",), harm="crash", causes=("nccl-algo-invalid",))
def algorithm_unknown(unit: Unit, job: Job) -> Found:
    """Allow algorithm-unknown.

    ## What it does
    Checks the words of `NCCL_ALGO` and `NCCL_PROTO`.

    ## Why is this bad?
    NCCL stops with ncclInvalidUsage, "Unrecognized element token"; before 2.24 it dropped the word without a message.

    ## Example
    ```bash launch.sh
    export NCCL_PROTO=LL,LL256
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_PROTO=LL,LL128
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    The form `allreduce:tree;allgather:ring` since NCCL 2.24.

    ## References
    - NVIDIA/nccl 5067397c, src/graph/tuning.cc, parseList
    """
    for name, known in (("NCCL_ALGO", ALGORITHMS), ("NCCL_PROTO", PROTOCOLS)):
        word = _unknown(unit.text(name, "") or "", known)
        if word is not None:
            here = unit[name]
            near = next((one for one in known if typo(word, one)), None)
            fix = (
                set_value(here, (unit.text(name) or "").replace(word, near))
                if near
                else advise(f"use {', '.join(known)}")
            )
            yield Problem(
                here, f"{here.shown} has {word!r}, which NCCL does not know; it takes {', '.join(known)}", fix
            )


@rule("NC023", "timeout-nobody-reads", tools=("env",), harm="ignored", severity="info", causes=("nccl-timeout-noop",))
def timeout_nobody_reads(unit: Unit, job: Job) -> Found:
    """Allow timeout-nobody-reads.

    ## What it does
    Reports `NCCL_TIMEOUT`, `TORCH_NCCL_TIMEOUT` and their like.

    ## Why is this bad?
    Neither NCCL nor torch has such a variable. A collective still times out after ten minutes, the default of
    `init_process_group`, unless your own script reads the variable and hands it on.

    ## Example
    ```bash launch.sh
    export NCCL_TIMEOUT=1800
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py --ddp_timeout 1800
    ```

    ## Versions
    torch 2.13.0 and NCCL 2.30 and before.

    ## References
    - torch 2.13.0, torch/include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp
    - NVIDIA/nccl 5067397c, src
    - pytorch/pytorch#27224
    """
    for name in TIMEOUTS:
        if name in unit:
            here = unit[name]
            why = "set the tool's own: ddp_timeout, --distributed-timeout-minutes, init_process_group(timeout=...)"
            yield Problem(here, f"{here.shown} is read by neither NCCL nor torch", remove(here, why=why))


@rule("NC024", "nccl-variable-mistyped", tools=("env",), harm="ignored", severity="warning", causes=("nccl-env-typo",))
def nccl_variable_mistyped(unit: Unit, job: Job) -> Found:
    """Allow nccl-variable-mistyped.

    ## What it does
    Looks for variables that no NCCL reads and that are one or two letters away from one that it does.

    ## Why is this bad?
    NCCL does not look at names that it does not know: the setting has no effect.

    ## Example
    ```bash launch.sh
    export NCCL_SOCKET_IFNAMES=eth0
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_SOCKET_IFNAME=eth0
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    NCCL 2.0 to the newest of the option table.

    ## References
    - NVIDIA/nccl 5067397c, NCCL_PARAM and ncclGetEnv in src
    - The option table, made from the published packages of NCCL
    """
    for name, here in unit.settings.items():
        if not name.startswith(("NCCL_", "NCLL_", "NCC_")) or name.startswith(PLUGINS) or name in TIMEOUTS:
            continue
        if name in known_names():
            continue
        near = sorted((one for one in NAMES if typo(name, one)), key=lambda one: (abs(len(one) - len(name)), one))
        if near and not near[0].removeprefix(name).isdigit():
            yield Problem(here, f"NCCL reads no {name}; did you mean {near[0]}?", rename(here, near[0]))
