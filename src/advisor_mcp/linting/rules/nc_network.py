"""Which way NCCL sends its data."""

import re

from advisor_mcp.linting.edits import remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._nc import is_on, names_of
from advisor_mcp.linting.rules._tc import spans_nodes
from advisor_mcp.linting.unit import Unit

INTERFACES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
# Cards without NVLink whose driver refuses direct transfers: to turn them off is what accelerate and transformers ask for.
WITHOUT_PEERS = re.compile(r"geforce|rtx[ -]?(20|30|40|50)\d\d|titan|\bt4\b", re.IGNORECASE)


@rule("NC001", "loopback-between-machines", tools=("env",), harm="hang", causes=("nccl-ifname-lo",))
def loopback_between_machines(unit: Unit, job: Job) -> Found:
    """Allow loopback-between-machines.

    ## What it does
    Looks for the loopback interface as the network of a job that runs on several machines.

    ## Why is this bad?
    No other machine reaches it: connection refused, or a wait until the timeout.

    ## Example
    ```bash launch.sh
    export NCCL_SOCKET_IFNAME=lo
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/nccl#286
    """
    for name in INTERFACES:
        mark, wanted = names_of(unit.text(name, "") or "")
        if wanted and "^" not in mark and set(wanted) <= {"lo"} and spans_nodes(unit, job):
            here = unit[name]
            yield Problem(
                here,
                f"{here.shown} is the loopback interface, which no other machine reaches",
                remove(here, why="or name the card between the machines"),
            )


@rule(
    "NC002",
    "interface-by-its-first-letters",
    tools=("env",),
    harm="hang",
    severity="warning",
    causes=("nccl-ifname-prefix",),
)
def interface_by_its_first_letters(unit: Unit, job: Job) -> Found:
    """Allow interface-by-its-first-letters.

    ## What it does
    Looks for one interface by name, without `=`, where others often begin with the same letters: `bond0` and the virtual
    networks `bond0.100` upon it, `ib0` and its partitions, `eth1` and `eth10`.

    ## Why is this bad?
    NCCL compares the beginning of the name only. It takes the other interface too, which may not reach the other machines,
    and hangs at the start.

    ## Example
    ```bash launch.sh
    export NCCL_SOCKET_IFNAME=bond0
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_SOCKET_IFNAME==bond0
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    All; `=` since NCCL 2.5.

    ## References
    - NVIDIA/nccl#177
    - NVIDIA/nccl#236
    - NVIDIA/nccl-tests#9
    """
    mark, wanted = names_of(unit.text("NCCL_SOCKET_IFNAME", "") or "")
    if (
        mark
        or len(wanted) != 1
        or not re.fullmatch(r"(bond|team|ib)\d+|eth[1-9]", wanted[0])
        or not spans_nodes(unit, job)
    ):
        return
    here = unit["NCCL_SOCKET_IFNAME"]
    other = wanted[0] + ("0" if wanted[0].startswith("eth") else ".100")
    message = f"{here.shown} also takes every interface whose name begins so, as {other}"
    fix = set_value(here, f"={wanted[0]}", why="= asks for this name alone")
    yield Problem(here, message, fix, severity="warning" if wanted[0].startswith(("bond", "team")) else "info")


@rule(
    "NC003",
    "infiniband-off",
    tools=("env",),
    harm="slow",
    severity="warning",
    causes=("nccl-ib-disable-ignored", "nccl-ib-disable"),
)
def infiniband_off(unit: Unit, job: Job) -> Found:
    """Allow infiniband-off.

    ## What it does
    Looks for `NCCL_IB_DISABLE=1` in a job of several machines that does not choose another network.

    ## Why is this bad?
    It turns off NCCL's own InfiniBand and RoCE code only. A network plugin (HPC-X and NVIDIA's containers bring one) goes on
    as before, so the variable does nothing; without a plugin all traffic between the machines becomes TCP.

    ## Example
    ```bash launch.sh
    export NCCL_IB_DISABLE=1
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_NET=Socket
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    `NCCL_NET` since NCCL 2.10, `NCCL_NET_PLUGIN=none` since 2.19.

    ## References
    - NVIDIA/nccl#676
    - NVIDIA/nccl-tests#227
    - NVIDIA/nccl-tests#373
    """
    here = is_on(unit, "NCCL_IB_DISABLE")
    if (
        here is None
        or any(name in unit for name in ("NCCL_NET", "NCCL_NET_PLUGIN", "NCCL_IBEXT_DISABLE"))
        or not spans_nodes(unit, job)
    ):
        return
    message = f"{here.shown} does not reach a network plugin, and without one the machines talk over TCP"
    yield Problem(here, message, remove(here, why="write NCCL_NET=Socket where TCP is what is wanted"))


@rule("NC004", "peer-transfers-off", tools=("env",), harm="slow", severity="warning", causes=("nccl-p2p-disable",))
def peer_transfers_off(unit: Unit, job: Job) -> Found:
    """Allow peer-transfers-off.

    ## What it does
    Looks for `NCCL_P2P_DISABLE=1` or `NCCL_P2P_LEVEL=LOC`, except on cards whose driver has no direct transfers.

    ## Why is this bad?
    The GPUs of a machine then exchange everything through the host's memory instead of NVLink or PCIe. It is set to get
    around a hang (ACS or IOMMU in the way, a driver fault) and stays in the script.

    ## Example
    ```bash launch.sh gpu=h100-sxm-80gb
    export NCCL_P2P_DISABLE=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh gpu=h100-sxm-80gb
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - vllm-project/vllm#5484
    - NVIDIA/nccl#1439
    """
    here = is_on(unit, "NCCL_P2P_DISABLE")
    if here is None and (unit.text("NCCL_P2P_LEVEL", "") or "").upper() in ("LOC", "0"):
        here = unit["NCCL_P2P_LEVEL"]
    if here is None or (job.gpu is not None and WITHOUT_PEERS.search(job.gpu.name)):
        return
    yield Problem(
        here,
        f"{here.shown} sends what the GPUs of a machine exchange through the host's memory",
        remove(here, why="look for what made the transfers hang"),
    )


@rule("NC005", "shared-memory-off", tools=("env",), harm="slow", severity="warning", causes=("nccl-shm-disable",))
def shared_memory_off(unit: Unit, job: Job) -> Found:
    """Allow shared-memory-off.

    ## What it does
    Looks for `NCCL_SHM_DISABLE=1`.

    ## Why is this bad?
    Where two GPUs cannot reach each other directly, NCCL then uses the network card, within one machine too. What it gets
    around is nearly always a small `/dev/shm` in a container.

    ## Example
    ```bash launch.sh
    export NCCL_SHM_DISABLE=1
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/nccl 5067397c, src/transport/shm.cc
    - NVIDIA NCCL user guide, environment variables, NCCL_SHM_DISABLE
    """
    here = is_on(unit, "NCCL_SHM_DISABLE")
    if here is not None:
        yield Problem(
            here,
            f"{here.shown} sends what GPUs without a direct way exchange over the network",
            remove(here, why="give the container a larger /dev/shm"),
        )


@rule(
    "NC006",
    "adapter-by-its-first-letters",
    tools=("env",),
    harm="unintended",
    severity="info",
    causes=("nccl-ib-hca-prefix",),
)
def adapter_by_its_first_letters(unit: Unit, job: Job) -> Found:
    """Allow adapter-by-its-first-letters.

    ## What it does
    Looks for `mlx5_1` without `=` in `NCCL_IB_HCA`.

    ## Why is this bad?
    It is compared as a beginning: `mlx5_10` to `mlx5_19` are taken as well, on machines that have them.

    ## Example
    ```bash launch.sh
    export NCCL_IB_HCA=mlx5_0,mlx5_1
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    export NCCL_IB_HCA==mlx5_0,mlx5_1
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    All; `=` since NCCL 2.5.

    ## References
    - NVIDIA/nccl#236
    """
    value = unit.text("NCCL_IB_HCA", "") or ""
    mark, wanted = names_of(value)
    listed = {name.split(":")[0] for name in wanted}
    # Who lists adapters above 9 as well knows the machine; a list that has all of 10 to 19 means them.
    if mark or "mlx5_1" not in listed or any(re.fullmatch(r"mlx5_1\d", name) for name in listed):
        return
    here = unit["NCCL_IB_HCA"]
    yield Problem(
        here,
        f"{here.shown} also takes mlx5_10 to mlx5_19 where a machine has them",
        set_value(here, f"={value}", why="= asks for these names alone"),
    )
