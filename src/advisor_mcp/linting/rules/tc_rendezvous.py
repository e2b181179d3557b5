"""How the nodes of a torchrun job find each other."""

from advisor_mcp.linting.edits import add_after, advise, remove
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._tc import LOOPBACK, above, batch_nodes, node_count, raw, spans_nodes
from advisor_mcp.linting.unit import Setting, Unit


def _static(unit: Unit) -> bool:
    """Whether the ranks of nodes are given by hand: the default without a rendezvous backend."""
    return not unit.open and unit.text("rdzv_backend", "static") == "static" and "standalone" not in unit


def _from_environment(unit: Unit, name: str) -> bool:
    """Whether an option may come from a variable: torchrun reads PET_<OPTION>."""
    return f"PET_{name.upper()}" in unit.env or (unit.container is not None)


@rule(
    "TC020", "standalone-of-several-nodes", tools=("torchrun",), harm="hang", causes=("torchrun-standalone-multinode",)
)
def standalone_of_several_nodes(unit: Unit, job: Job) -> Found:
    """Allow standalone-of-several-nodes.

    ## What it does
    Looks for `--standalone` with more than one node.

    ## Why is this bad?
    It replaces every rendezvous option with one on this machine alone. Each node waits for the others at its own door
    until the rendezvous times out.

    ## Example
    ```bash launch.sh
    torchrun --standalone --nnodes=2 --nproc_per_node=8 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend c10d --rdzv_endpoint node0:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, run
    """
    here, nodes = unit.setting("standalone"), node_count(unit)
    if here is not None and unit.truth("standalone") is True and nodes is not None and nodes > 1:
        count = unit["nnodes"]
        fix = remove(here, why="and give --rdzv_backend c10d --rdzv_endpoint HOST:29500")
        yield Problem(here, f"{here.written} is for one node, and {count.shown}", fix, (count,))


@rule(
    "TC021", "nodes-without-a-meeting-place", tools=("torchrun",), harm="hang", causes=("torchrun-multinode-no-rdzv",)
)
def nodes_without_a_meeting_place(unit: Unit, job: Job) -> Found:
    """Allow nodes-without-a-meeting-place.

    ## What it does
    Looks for several nodes without an address to meet at: neither `--master_addr` nor `--rdzv_endpoint`.

    ## Why is this bad?
    The default is this machine. Each node waits for the others at its own door.

    ## Example
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --node_rank=$RANK train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --node_rank=$RANK --master_addr=node0 --master_port=29500 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, get_args_parser
    - pytorch/pytorch#76069
    """
    nodes = node_count(unit)
    if nodes is None or nodes < 2 or unit.open or "standalone" in unit:
        return
    here = unit["nnodes"]
    backend = unit.text("rdzv_backend", "static")
    if "rdzv_endpoint" in unit or _from_environment(unit, "rdzv_endpoint") or _from_environment(unit, "master_addr"):
        return
    if backend == "static" and "master_addr" not in unit:
        yield Problem(
            here,
            f"{here.shown}, but no --master_addr says where they meet",
            advise("give --master_addr, or --rdzv_backend c10d --rdzv_endpoint"),
        )
    elif backend in ("c10d", "etcd", "etcd-v2"):
        given = unit.setting("master_addr")
        known = isinstance(given.value, str) if given is not None else False
        fix = (
            add_after(unit["rdzv_backend"], "--rdzv_endpoint", f"{given.value}:29500")
            if given is not None and known
            else advise("give --rdzv_endpoint HOST:PORT")
        )
        yield Problem(
            given or here,
            f"the backend {backend} needs --rdzv_endpoint" + (" and does not read --master_addr" if given else ""),
            fix,
            (here,),
        )


@rule("TC022", "nodes-of-one-rank", tools=("torchrun",), harm="hang", causes=("node-rank-missing",))
def nodes_of_one_rank(unit: Unit, job: Job) -> Found:
    """Allow nodes-of-one-rank.

    ## What it does
    Looks for several nodes by `--master_addr` without `--node_rank`, or by `--rdzv_endpoint` without a backend.

    ## Why is this bad?
    Without a backend the rank of each node must be given; it is 0 otherwise, and every node takes itself for the first
    one: "address already in use", or a wait that ends in a timeout.

    ## Example
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --master_addr=node0 --master_port=29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/elastic/rendezvous/static_tcp_rendezvous.py
    - pytorch/pytorch#73656
    """
    nodes = node_count(unit)
    if (
        nodes is None
        or nodes < 2
        or not _static(unit)
        or "node_rank" in unit
        or _from_environment(unit, "node_rank")
        or _from_environment(unit, "rdzv_backend")
    ):
        return
    endpoint, address = unit.setting("rdzv_endpoint"), unit.setting("master_addr")
    if endpoint is not None:
        yield Problem(
            endpoint,
            f"{endpoint.written} without --rdzv_backend makes every node rank 0",
            add_after(endpoint, "--rdzv_backend", "c10d"),
        )
    elif address is not None:
        fix = advise("give each node its --node_rank, or use --rdzv_backend c10d --rdzv_endpoint")
        yield Problem(
            unit["nnodes"], f"{unit['nnodes'].shown} without --node_rank makes every node rank 0", fix, (address,)
        )


@rule(
    "TC023",
    "meeting-at-home",
    tools=("torchrun", "env"),
    harm="hang",
    causes=("rdzv-localhost-multinode", "master-addr-localhost"),
)
def meeting_at_home(unit: Unit, job: Job) -> Found:
    """Allow meeting-at-home.

    ## What it does
    Looks for `localhost` as the meeting place of several nodes.

    ## Why is this bad?
    Every node means itself by it. They wait until the rendezvous times out, or train as many separate jobs.

    ## Example
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=localhost:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Versions
    All.

    ## References
    - pytorch/pytorch#76069
    - mlc-ai/pith-train#91
    """
    if unit.tool == "env":
        here = unit.setting("MASTER_ADDR")
        several = here is not None and spans_nodes(unit, job)
    else:
        here = unit.setting("rdzv_endpoint") or unit.setting("master_addr")
        several = (node_count(unit) or 1) > 1 or (
            _nodes_of_batch(unit) > 1 and "nnodes" in unit and node_count(unit) is None
        )
    if here is None or not several or not isinstance(here.value, str) or not LOOPBACK.match(here.value):
        return
    if unit.tool == "torchrun" and _is_of(here, "MASTER_ADDR", unit):
        return
    yield Problem(
        here,
        f"{here.shown} is each node itself, and the job has several",
        advise("name node 0: $(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1)"),
    )


def _is_of(setting: Setting, name: str, unit: Unit) -> bool:
    """Whether a value comes from an exported variable that the environment's own finding is about."""
    return name in unit.env and raw(setting) == raw(unit.env[name])


def _nodes_of_batch(unit: Unit) -> int:
    batch = above(unit, "slurm")
    return (batch_nodes(batch) or 1) if batch is not None else 1


@rule(
    "TC024",
    "rendezvous-without-id",
    tools=("torchrun",),
    harm="unintended",
    severity="info",
    causes=("rdzv-id-missing",),
)
def rendezvous_without_id(unit: Unit, job: Job) -> Found:
    """Allow rendezvous-without-id.

    ## What it does
    Looks for a c10d rendezvous of several nodes without `--rdzv_id`.

    ## Why is this bad?
    The id tells jobs apart that meet at one address; without it a job that is still ending and its restart can mix.

    ## Example
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 --rdzv_id=job17 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, "Note on rendezvous backend"
    """
    backend, nodes = unit.setting("rdzv_backend"), node_count(unit)
    if backend is not None and backend.value == "c10d" and nodes is not None and nodes > 1 and unit.absent("rdzv_id"):
        yield Problem(
            backend, "a rendezvous of several nodes has no --rdzv_id", add_after(backend, "--rdzv_id", "job1")
        )


@rule("TC025", "ignored-node-rank", tools=("torchrun",), harm="ignored", severity="info", causes=("node-rank-ignored",))
def ignored_node_rank(unit: Unit, job: Job) -> Found:
    """Allow ignored-node-rank.

    ## What it does
    Looks for a literal `--node_rank` above 0 beside `--rdzv_backend c10d`.

    ## Why is this bad?
    That backend gives the ranks itself; rank 0 need not be the node that was meant, nor the one of `--master_addr`.

    ## Example
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --node_rank=1 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 \\
      --rdzv_id=a train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 --rdzv_id=a train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, config_from_args
    - pytorch/pytorch#137402
    """
    here, rank = unit.setting("node_rank"), unit.number("node_rank")
    if here is not None and rank and unit.text("rdzv_backend", "static") in ("c10d", "etcd", "etcd-v2"):
        yield Problem(here, f"{here.shown} is not used by the backend {unit.text('rdzv_backend')}", remove(here))


@rule(
    "TC026",
    "restarts-that-lose-the-address",
    tools=("torchrun",),
    harm="ignored",
    severity="info",
    causes=("rdzv-override",),
)
def restarts_that_lose_the_address(unit: Unit, job: Job) -> Found:
    """Allow restarts-that-lose-the-address.

    ## What it does
    Looks for `--standalone` beside rendezvous options on one node.

    ## Why is this bad?
    It replaces them: an address, port or id that was given is not used.

    ## Example
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=node0:29500 train.py
    ```

    ## Use instead
    ```bash launch.sh
    torchrun --standalone --nproc_per_node=8 train.py
    ```

    ## Versions
    All.

    ## References
    - torch 2.13.0, torch/distributed/run.py, run
    """
    alone, here = unit.setting("standalone"), unit.setting("rdzv_endpoint", "rdzv_id", "master_port", "master_addr")
    if alone is not None and here is not None and (node_count(unit) or 1) == 1 and unit.truth("standalone") is True:
        yield Problem(here, f"{here.written} is replaced by {alone.written}", remove(here), (alone,))
