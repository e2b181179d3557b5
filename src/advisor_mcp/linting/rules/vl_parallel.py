"""vLLM's tensor, pipeline, data and context parallelism."""

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.rules._vl import expert_ranks, is_on, switch
from advisor_mcp.linting.unit import Setting, Unit

FAST_FABRICS = (
    "infiniband",
    "ib",
    "rdma",
    "roce",
    "nvlink",
    "nvl",
    "efa",
    "slingshot",
    "gpudirect",
    "ndr",
    "hdr",
    "xdr",
)
RACK_SCALE = ("gb200", "gb300", "nvl72", "nvl36")
GPUS_OF_A_NODE = 8


@rule("VL055", "data-parallel-sizes-differ", tools=("vllm",), harm="crash", causes=("dp-local",))
def data_parallel_sizes_differ(unit: Unit, job: Job) -> Found:
    """Allow data-parallel-sizes-differ.

    ## What it does
    Checks that `--data-parallel-size-local` is at most `--data-parallel-size`, and `--data-parallel-rank` below it.

    ## Why is this bad?
    vLLM stops: "data_parallel_size_local (8) must be <= data_parallel_size (4)", or "data_parallel_rank must be in the range".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --data-parallel-size 4 --data-parallel-size-local 8
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --data-parallel-size 8 --data-parallel-size-local 8
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, config/parallel.py, _validate_parallel_config
    """
    size, local = unit.number("data_parallel_size", 1), unit.number("data_parallel_size_local")
    rank = unit.number("data_parallel_rank")
    if size is None:
        return
    also = (unit["data_parallel_size"],) if "data_parallel_size" in unit else ()
    if local is not None and local > size:
        setting = unit["data_parallel_size_local"]
        yield Problem(
            setting, f"data_parallel_size_local is {local:.12g}, more than data_parallel_size = {size:.12g}", None, also
        )
    if rank is not None and rank >= size and "data_parallel_size" in unit:
        setting = unit["data_parallel_rank"]
        yield Problem(
            setting,
            f"data_parallel_rank is {rank:.12g}, and ranks go from 0 to {size - 1:.12g}",
            set_value(setting, int(size) - 1),
            also,
        )


@rule("VL056", "several-balancing-modes", tools=("vllm",), harm="crash", causes=("dp-lb",))
def several_balancing_modes(unit: Unit, job: Job) -> Found:
    """Allow several-balancing-modes.

    ## What it does
    Finds more than one mode of load balancing between data-parallel ranks: external (`--data-parallel-external-lb` or
    `--data-parallel-rank`) and hybrid (`--data-parallel-hybrid-lb`).

    ## Why is this bad?
    vLLM stops: "Cannot use more than one data parallel load balancing mode", before 0.24 with a bare assertion.

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 16 --data-parallel-external-lb --data-parallel-hybrid-lb --data-parallel-size-local 8
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 -dp 16 --data-parallel-hybrid-lb --data-parallel-size-local 8
    ```

    ## Versions
    0.10 and later.

    ## References
    - vllm 0.33.0, entrypoints/cli/serve.py
    - vllm 0.12.0, engine/arg_utils.py, create_engine_config
    """
    hybrid, external = switch(unit, "data_parallel_hybrid_lb"), switch(unit, "data_parallel_external_lb")
    if hybrid[1] is True and external[1] is True and hybrid[0] is not None and external[0] is not None:
        yield Problem(external[0], "external and hybrid load balancing are both on", remove(external[0]), (hybrid[0],))
    elif hybrid[1] is True and hybrid[0] is not None and "data_parallel_rank" in unit:
        setting = unit["data_parallel_rank"]
        yield Problem(
            setting,
            "a data-parallel rank means external load balancing, and the hybrid one is on",
            remove(setting),
            (hybrid[0],),
        )


@rule("VL057", "balancing-mode-incomplete", tools=("vllm",), harm="crash", causes=("dp-lb",))
def balancing_mode_incomplete(unit: Unit, job: Job) -> Found:
    """Allow balancing-mode-incomplete.

    ## What it does
    Checks what each mode of load balancing needs: the hybrid one `--data-parallel-size-local`, the external one a
    `--data-parallel-size` of more than 1 and a rank.

    ## Why is this bad?
    vLLM stops: "`--data-parallel-hybrid-lb` requires `--data-parallel-size-local`", or "data_parallel_external_lb can only be
    set when data_parallel_size > 1".

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 --data-parallel-size 16 --data-parallel-hybrid-lb
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-V3 --data-parallel-size 16 --data-parallel-hybrid-lb --data-parallel-size-local 8
    ```

    ## Versions
    0.10 and later.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    """
    hybrid, external = switch(unit, "data_parallel_hybrid_lb"), switch(unit, "data_parallel_external_lb")
    if hybrid[1] is True and hybrid[0] is not None and unit.absent("data_parallel_size_local"):
        yield Problem(
            hybrid[0],
            "hybrid load balancing needs data-parallel-size-local, the ranks of this node",
            _how("data-parallel-size-local"),
        )
    if external[1] is not True or external[0] is None:
        return
    size = unit.number("data_parallel_size", 1)
    if size is not None and size <= 1 and not unit.open:
        yield Problem(
            external[0], "external load balancing needs a data-parallel-size of more than 1", _how("data-parallel-size")
        )
    elif unit.absent("data_parallel_rank", "node_rank", "nnodes"):
        yield Problem(external[0], "external load balancing needs a data-parallel-rank", _how("data-parallel-rank"))


@rule("VL058", "local-size-with-a-rank", tools=("vllm",), harm="crash", causes=("dp-rank",))
def local_size_with_a_rank(unit: Unit, job: Job) -> Found:
    """Allow local-size-with-a-rank.

    ## What it does
    Finds `--data-parallel-rank` with a `--data-parallel-size-local` other than 1.

    ## Why is this bad?
    A server that is told its rank runs that one rank; vLLM stops: "data_parallel_size_local must be 1 when
    data_parallel_rank is set".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --data-parallel-size 4 --data-parallel-rank 0 --data-parallel-size-local 4
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-30B-A3B --data-parallel-size 4 --data-parallel-rank 0
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    """
    local = unit.number("data_parallel_size_local", 1)
    if "data_parallel_rank" in unit and local is not None and local != 1:
        setting = unit["data_parallel_size_local"]
        message = f"data_parallel_size_local is {local:.12g}, and a server with a data-parallel-rank runs one rank"
        yield Problem(setting, message, remove(setting), (unit["data_parallel_rank"],))


@rule("VL059", "headless-with-api-servers", tools=("vllm",), harm="crash", causes=("headless",))
def headless_with_api_servers(unit: Unit, job: Job) -> Found:
    """Allow headless-with-api-servers.

    ## What it does
    Finds `--headless` with `--api-server-count`, or with hybrid load balancing.

    ## Why is this bad?
    A headless server runs engines only. vLLM stops: "--api-server-count=2 cannot be used with --headless", or
    "data_parallel_hybrid_lb is not applicable in headless mode".

    ## Example
    ```bash worker.sh
    vllm serve Qwen/Qwen3-30B-A3B -dp 8 --data-parallel-address 10.0.0.1 --headless --api-server-count 2
    ```

    ## Use instead
    ```bash worker.sh
    vllm serve Qwen/Qwen3-30B-A3B -dp 8 --data-parallel-address 10.0.0.1 --headless
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, entrypoints/cli/serve.py
    """
    if not is_on(unit, "headless"):
        return
    count, hybrid = unit.number("api_server_count", 0), switch(unit, "data_parallel_hybrid_lb")
    if count:
        setting = unit["api_server_count"]
        yield Problem(
            setting,
            f"a headless server runs no API server, and {count:.12g} are asked for",
            remove(setting),
            (unit["headless"],),
        )
    if hybrid[1] is True and hybrid[0] is not None:
        yield Problem(
            hybrid[0], "a headless server has no API server to balance load for", remove(hybrid[0]), (unit["headless"],)
        )


@rule("VL060", "ranks-over-nodes", tools=("vllm",), harm="crash", causes=("nnodes",))
def ranks_over_nodes(unit: Unit, job: Job) -> Found:
    """Allow ranks-over-nodes.

    ## What it does
    With `--nnodes`, checks that the number of ranks is a multiple of it, that `--node-rank` is below it, and that neither the
    executor nor the data-parallel backend is Ray.

    ## Why is this bad?
    vLLM stops: "`--nnodes 3` must evenly divide the total world size (8)", "`--node-rank` must be between 0 and 1", or
    "nnodes > 1 can only be set when distributed executor backend is mp, uni or external_launcher".

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 -tp 8 -pp 2 --nnodes 2 --node-rank 2 --master-addr 10.0.0.1
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 -tp 8 -pp 2 --nnodes 2 --node-rank 1 --master-addr 10.0.0.1
    ```

    ## Versions
    0.11.2 and later.

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    - vllm 0.33.0, config/parallel.py, __post_init__
    """
    nodes, rank = unit.number("nnodes", 1), unit.number("node_rank", 0)
    if nodes is None or nodes <= 1:
        return
    setting = unit["nnodes"]
    if rank is not None and rank >= nodes:
        yield Problem(
            unit["node_rank"],
            f"node_rank is {rank:.12g}, and nodes are counted from 0 to {nodes - 1:.12g}",
            None,
            (setting,),
        )
    for name in ("distributed_executor_backend", "data_parallel_backend"):
        if unit.text(name) == "ray":
            yield Problem(unit[name], f"{name} is ray, which does not go with nnodes", remove(unit[name]), (setting,))
    ranks = _ranks(unit)
    if ranks is not None and ranks % nodes:
        yield Problem(
            setting,
            f"{ranks} ranks cannot be spread evenly over {nodes:.12g} nodes",
            advise("make the sizes a multiple of nnodes"),
        )


@rule(
    "VL061",
    "tensor-ranks-across-nodes",
    tools=("vllm", "sglang"),
    harm="slow",
    severity="warning",
    causes=("tp-across-nodes",),
)
def tensor_parallelism_across_nodes(unit: Unit, job: Job) -> Found:
    """Allow tensor-ranks-across-nodes.

    ## What it does
    Finds a tensor parallel size larger than a node has GPUs (8, where nothing else was said), unless the network between the
    nodes was said to be RDMA or NVLink, or the GPUs are of a rack-scale system. Only a note where the nodes are not known.

    ## Why is this bad?
    Tensor parallelism exchanges activations twice a layer. Over TCP that takes longer than the computing: tensor parallelism
    within a node and pipeline stages between nodes is several times faster.

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 16 --distributed-executor-backend ray
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --pipeline-parallel-size 2 --distributed-executor-backend ray
    ```

    ## Versions
    All. With GPUDirect RDMA ("via NET/IB/GDRDMA" in NCCL's log) it can be the better choice.

    ## References
    - vllm documentation, serving/parallelism_scaling
    - vllm-project/vllm#17006
    - vllm-project/vllm#20593
    - vllm-project/vllm#6610
    """
    setting, size = unit.named("tensor_parallel"), unit.size("tensor_parallel")
    said = job.gpus_per_node
    per_node = said or GPUS_OF_A_NODE
    fabric = (job.given.interconnect or "").lower()
    rack = job.gpu is not None and any(mark in job.gpu.name.lower() for mark in RACK_SCALE)
    if setting is None or size is None or size <= per_node or rack or is_on(unit, "enable_dp_attention"):
        return
    words = fabric.replace("-", " ").replace("/", " ").split()
    if any(word.startswith(FAST_FABRICS) for word in words) or unit.program == "srt-slurm" or _rack_named(unit):
        return
    where = f"nodes of {per_node} GPUs" + ("" if said else " (assumed)")
    message = f"tensor parallelism over {size} GPUs crosses {where}: two exchanges a layer over the network"
    fix = None
    if size % per_node == 0 and unit.tool == "vllm" and "pipeline_parallel_size" not in unit:
        fix = set_value(setting, per_node, why=f"and pipeline-parallel-size {size // per_node}")
    severity: Severity | None = None if said or fabric else "info"
    how = fix or advise("use tensor parallelism within a node and pipeline stages between nodes")
    yield Problem(setting, message, how, severity=severity)


@rule(
    "VL062",
    "more-ranks-than-visible-gpus",
    tools=_kd.GPU_ENGINES,
    harm="crash",
    causes=("ranks-gt-gpus", "visible-devices"),
)
def more_ranks_than_visible_gpus(unit: Unit, job: Job) -> Found:
    """Allow more-ranks-than-visible-gpus.

    ## What it does
    Compares the GPUs that a server needs on this machine with `CUDA_VISIBLE_DEVICES`.

    ## Why is this bad?
    vLLM stops: "World size (4) is larger than the number of available GPUs (2) in this node"; other servers with an invalid
    device ordinal.

    ## Example
    ```bash serve.sh
    CUDA_VISIBLE_DEVICES=0,1 vllm serve Qwen/Qwen3-32B --tensor-parallel-size 4
    ```

    ## Use instead
    ```bash serve.sh
    CUDA_VISIBLE_DEVICES=0,1 vllm serve Qwen/Qwen3-32B --tensor-parallel-size 2
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/parallel.py, __post_init__
    - vllm-project/vllm#5450
    """
    wanted = _kd.gpus_wanted(unit)
    setting = unit.named("tensor_parallel") or unit.named("pipeline_parallel") or unit.named("data_parallel")
    if wanted is None or setting is None or unit.open:
        return
    visible = unit.env.get("CUDA_VISIBLE_DEVICES")
    devices = [d for d in str(visible.value).split(",") if d.strip()] if visible is not None and visible.known else None
    if visible is not None and devices is not None and 0 < len(devices) < wanted:
        message = f"the server starts {wanted} ranks, but CUDA_VISIBLE_DEVICES has {len(devices)}"
        yield Problem(setting, message, _fitting(setting, wanted, len(devices)), (visible,))


@rule("VL063", "context-ranks-do-not-divide", tools=("vllm",), harm="crash", causes=("dcp",))
def context_ranks_do_not_divide(unit: Unit, job: Job) -> Found:
    """Allow context-ranks-do-not-divide.

    ## What it does
    Checks that the tensor parallel size is a multiple of `--decode-context-parallel-size`.

    ## Why is this bad?
    Decode context parallelism reuses the tensor-parallel ranks. vLLM stops: "tp_size=8 must be divisible by dcp_size=3".

    ## Example
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --decode-context-parallel-size 3
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve deepseek-ai/DeepSeek-R1 --tensor-parallel-size 8 --decode-context-parallel-size 4
    ```

    ## Versions
    0.10.2 and later.

    ## References
    - vllm 0.33.0, config/parallel.py, _validate_parallel_config
    """
    context, size = unit.number("decode_context_parallel_size", 1), unit.size("tensor_parallel")
    if context and size and context > 1 and size % context and unit.number("prefill_context_parallel_size", 1) == 1:
        setting = unit["decode_context_parallel_size"]
        also = (unit["tensor_parallel_size"],) if "tensor_parallel_size" in unit else ()
        yield Problem(
            setting,
            f"tensor_parallel_size {size} is no multiple of decode_context_parallel_size {context:.12g}",
            None,
            also,
        )


def _ranks(unit: Unit) -> int | None:
    experts, pipeline = expert_ranks(unit), unit.size("pipeline_parallel")
    return experts * pipeline if experts and pipeline else None


def _how(name: str) -> Fix:
    return advise(f"add --{name}")


def _fitting(setting: Setting, wanted: int, there: int) -> Fix:
    return set_value(setting, there) if str(setting.value) == str(wanted) else advise("lower the parallel sizes")


def _rack_named(unit: Unit) -> bool:
    """Whether the file's name says that it is for a rack-scale system."""
    return any(mark in unit.source.root.name.lower() for mark in RACK_SCALE)
