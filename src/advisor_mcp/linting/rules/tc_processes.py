"""How many processes a launcher starts, and where."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._tc import LAUNCHERS, raw, visible_devices, workers, workers_setting
from advisor_mcp.linting.unit import Unit

_TORCHRUN = {
    "nproc_per_node",
    "nnodes",
    "node_rank",
    "rdzv_backend",
    "rdzv_endpoint",
    "rdzv_id",
    "standalone",
    "max_restarts",
}


@rule("TC001", "more-processes-than-gpus", tools=LAUNCHERS, harm="crash", causes=("ranks-gt-gpus",))
def more_processes_than_gpus(unit: Unit, job: Job) -> Found:
    """Allow more-processes-than-gpus.

    ## What it does
    Compares the processes a launcher starts on a machine with the GPUs that `CUDA_VISIBLE_DEVICES` leaves, or with the
    GPUs of a node where they are given.

    ## Why is this bad?
    Every process takes the GPU of its local rank. Those beyond the last fail with "invalid device ordinal", or share
    one: "Duplicate GPU detected".

    ## Example
    ```bash launch.sh
    export CUDA_VISIBLE_DEVICES=0,1,2,3
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export CUDA_VISIBLE_DEVICES=0,1,2,3
    torchrun --standalone --nproc_per_node=4 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py
    - NVIDIA/nccl#1948
    """
    here, count, devices = workers_setting(unit), workers(unit), visible_devices(unit)
    if here is None or not count:
        return
    if devices is not None and count > len(devices[0]):
        said = f"{count} processes for the {len(devices[0])} GPUs of {devices[1].name}"
        yield Problem(here, said, set_value(here, len(devices[0])), (devices[1],))
    elif devices is None and job.gpus_per_node and count > job.gpus_per_node:
        yield Problem(
            here, f"{count} processes for the {job.gpus_per_node} GPUs of a node", set_value(here, job.gpus_per_node)
        )


@rule("TC002", "idle-gpus", tools=LAUNCHERS, harm="unintended", severity="info", causes=("gpus-idle",))
def idle_gpus(unit: Unit, job: Job) -> Found:
    """Allow idle-gpus.

    ## What it does
    Looks for fewer processes on a machine than `CUDA_VISIBLE_DEVICES` has GPUs.

    ## Why is this bad?
    One process uses one GPU; the others stay idle.

    ## Example
    ```bash launch.sh
    CUDA_VISIBLE_DEVICES=0,1,2,3 torchrun --standalone --nproc_per_node=2 train.py
    ```

    ## Use instead
    ```bash launch.sh
    CUDA_VISIBLE_DEVICES=0,1,2,3 torchrun --standalone --nproc_per_node=4 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py
    """
    here, count, devices = workers_setting(unit), workers(unit), visible_devices(unit)
    if here is not None and count and devices is not None and count < len(devices[0]):
        yield Problem(
            here, f"{count} processes for {len(devices[0])} GPUs", set_value(here, len(devices[0])), (devices[1],)
        )


@rule(
    "TC003",
    "launcher-options-after-the-script",
    tools=("script", "megatron-lm", "hf_trainer", "trl", "torchtitan_cli"),
    harm="wrong_result",
    causes=("torchrun-flags-after-script",),
)
def launcher_options_after_the_script(unit: Unit, job: Job) -> Found:
    """Allow launcher-options-after-the-script.

    ## What it does
    Looks for torchrun's own options behind the script's name.

    ## Why is this bad?
    Everything behind the script goes to the script. torchrun starts one process on one node, and the script stops at an
    option it does not know, or ignores it.

    ## Example
    ```bash launch.sh
    torchrun train.py --nproc_per_node 8 --batch-size 4
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 train.py --batch-size 4
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, training_script_args
    """
    launcher = unit.launcher
    if launcher is None or launcher.tool != "torchrun":
        return
    for name in _TORCHRUN:
        here = unit.setting(name)
        if here is not None and name not in launcher and here.syntax == "shell":
            yield Problem(
                here,
                f"{here.written} stands behind the script, so that torchrun does not see it",
                advise("write it before the script"),
            )


@rule(
    "TC004",
    "deprecated-launcher",
    tools=("torchrun",),
    harm="deprecated",
    severity="info",
    causes=("launch-deprecated",),
)
def deprecated_launcher(unit: Unit, job: Job) -> Found:
    """Allow deprecated-launcher.

    ## What it does
    Looks for `python -m torch.distributed.launch`.

    ## Why is this bad?
    It is deprecated in favour of torchrun, and passes `--local-rank` to the script where `--use-env` is not given.

    ## Example
    ```bash launch.sh
    python -m torch.distributed.launch --nproc_per_node 8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node 8 train.py
    ```

    ## Versions
    From torch 1.10 on.

    ## References
    - torch 2.13.0, torch/distributed/launch.py
    """
    if unit.program == "torch.distributed.launch":
        yield Problem(unit, "torch.distributed.launch is deprecated", advise("write torchrun"))


@rule("TC005", "shared-rendezvous-port", tools=LAUNCHERS, harm="crash", causes=("master-port-clash",))
def shared_rendezvous_port(unit: Unit, job: Job) -> Found:
    """Allow shared-rendezvous-port.

    ## What it does
    Looks for two launchers that a script starts in the background with one port between them.

    ## Why is this bad?
    The second cannot listen ("address already in use"), or its processes join the first job.

    ## Example
    ```bash launch.sh
    CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 2 --master_port 29501 a.py &
    CUDA_VISIBLE_DEVICES=2,3 torchrun --nproc_per_node 2 --master_port 29501 b.py &
    wait
    ```

    ## Use instead
    ```bash launch.sh
    CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 2 --master_port 29501 a.py &
    CUDA_VISIBLE_DEVICES=2,3 torchrun --nproc_per_node 2 --master_port 29502 b.py &
    wait
    ```

    ## Versions
    All. Without a port torchrun takes a free one on a single node, accelerate and deepspeed take 29500.

    ## References
    - torch 2.13.0, torch/distributed/run.py
    - huggingface/accelerate#3175
    """
    port = _port(unit)
    if port is None or not _in_background(unit):
        return
    for other in job.others(*LAUNCHERS):
        same = other.source is unit.source and other.span.start < unit.span.start and not other.conditional
        if same and _in_background(other) and _port(other) == port and not unit.conditional:
            here = unit.setting("master_port", "main_process_port", "rdzv_endpoint") or unit
            fix = (
                set_value(here, int(port) + 1)
                if not isinstance(here, Unit) and here.value == port
                else advise("give each its own port")
            )
            yield Problem(here, f"port {port} is taken by the launcher that runs beside it", fix, (other.span,))
            return


def _port(unit: Unit) -> str | None:
    if unit.setting("standalone") is not None:
        return None
    found = unit.text("rdzv_endpoint") or ""
    if ":" in found:
        port = found.rpartition(":")[2]
        return port if port.isdigit() and port != "0" else None
    default = None if unit.tool == "torchrun" or unit.open else "29500"
    for name in ("master_port", "main_process_port"):
        if name in unit:
            return unit.text(name)
    return default


def _in_background(unit: Unit) -> bool:
    """Whether the command ends with a single ``&``."""
    text, at = unit.source.text, unit.span.end
    while True:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].rstrip()
        if not line.endswith("\\") or end >= len(text):
            return line.endswith("&") and not line.endswith("&&")
        at = end + 1


@rule("TC006", "port-out-of-range", tools=(*LAUNCHERS, "env"), harm="crash", causes=("master-port-range",))
def port_out_of_range(unit: Unit, job: Job) -> Found:
    """Allow port-out-of-range.

    ## What it does
    Checks the rendezvous port: 1 to 65535, and 1024 or more for ordinary users.

    ## Why is this bad?
    A larger port does not exist; a small one needs root: "permission denied".

    ## Example
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr node0 --master_port 129500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr node0 --master_port 29500 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/Megatron-LM#2301
    - torch 2.13.0, torch/distributed/run.py
    """
    for name in ("master_port", "main_process_port", "MASTER_PORT"):
        here, port = unit.setting(name), unit.number(name)
        if here is None or port is None:
            continue
        if not 0 <= port <= 65535:
            yield Problem(here, f"{here.shown} is no port: they end at 65535", set_value(here, 29500))
        elif 0 < port < 1024:
            yield Problem(
                here, f"{here.shown} is below 1024, which only root may use", set_value(here, 29500), severity="warning"
            )


@rule("TC007", "rank-beyond-the-nodes", tools=("torchrun",), harm="crash", causes=("node-rank-range",))
def rank_beyond_the_nodes(unit: Unit, job: Job) -> Found:
    """Allow rank-beyond-the-nodes.

    ## What it does
    Checks that the node's rank is below the number of nodes.

    ## Why is this bad?
    Ranks count from 0. A node with the rank of the count waits for ever, and so do the others.

    ## Example
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 2 --nproc_per_node 8 --master_addr node0 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 1 --nproc_per_node 8 --master_addr node0 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/elastic/rendezvous/static_tcp_rendezvous.py
    """
    here, rank, nodes = unit.setting("node_rank"), unit.number("node_rank"), unit.number("nnodes")
    if (
        here is not None
        and rank is not None
        and nodes
        and rank >= nodes
        and unit.text("rdzv_backend", "static") == "static"
    ):
        yield Problem(here, f"{here.shown} of {int(nodes)} nodes: ranks count from 0", set_value(here, int(nodes) - 1))


@rule(
    "TC008",
    "placeholder-left-in",
    tools=("torchrun", "accelerate_launch", "deepspeed_launcher"),
    harm="crash",
    causes=("placeholder",),
)
def placeholder_left_in(unit: Unit, job: Job) -> Found:
    """Allow placeholder-left-in.

    ## What it does
    Looks for an address that is still a placeholder: `<MASTER_IP>`, `xxx.xxx.xxx.xxx`, `your_ip`.

    ## Why is this bad?
    The name cannot be resolved, and every node waits until the rendezvous times out.

    ## Example
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr xxx.xxx.xxx.xxx train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr 10.0.0.1 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/elastic/rendezvous/dynamic_rendezvous.py
    """
    for name in ("master_addr", "rdzv_endpoint", "main_process_ip"):
        here, value = unit.setting(name), (unit.text(name) or "").lower()
        if here is not None and (
            value.startswith(("<", "xxx", "x.x.x", "your")) or "your_" in value or "your-" in value
        ):
            yield Problem(
                here, f"{here.shown} is a placeholder", advise("write the address of node 0"), severity="warning"
            )


@rule("TC009", "untyped-worker-count", tools=("torchrun",), harm="crash", causes=("nproc-value",))
def untyped_worker_count(unit: Unit, job: Job) -> Found:
    """Allow untyped-worker-count.

    ## What it does
    Checks `--nproc_per_node` (a number, `gpu`, `auto`, `cpu` or `xpu`) and `--nnodes` (a number or MIN:MAX).

    ## Why is this bad?
    torchrun stops: "Unsupported nproc_per_node value".

    ## Example
    ```bash launch.sh
    torchrun --nproc_per_node gpus train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nproc_per_node gpu train.py
    ```

    ## Versions
    All; `xpu` from torch 2.7 on.

    ## References
    - torch 2.13.0, torch/distributed/run.py, determine_local_world_size
    """
    here, count = unit.setting("nproc_per_node"), unit.text("nproc_per_node")
    if (
        here is not None
        and count
        and not count.isdigit()
        and count not in ("gpu", "auto", "cpu", "xpu", "hpu", "npu", "mlu", "musa", "true")
    ):
        yield Problem(here, f"{here.shown} is no number, gpu, auto, cpu or xpu", set_value(here, "gpu"))
    nodes, said = unit.setting("nnodes"), unit.text("nnodes")
    parts = (said or "1").split(":")
    if (
        nodes is not None
        and said
        and "$" not in raw(nodes)[:1]
        and (len(parts) > 2 or not all(part.isdigit() for part in parts))
    ):
        yield Problem(nodes, f"{nodes.shown} is no number or MIN:MAX", remove(nodes))
    elif nodes is not None and len(parts) == 2 and not 0 < int(parts[0]) <= int(parts[1]):
        yield Problem(
            nodes, f"{nodes.shown} has a minimum above its maximum", set_value(nodes, f"{parts[1]}:{parts[0]}")
        )
