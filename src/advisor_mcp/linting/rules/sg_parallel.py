"""SGLang's parallelism: nodes, data-parallel attention, expert parallelism."""

import math

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._sg import DATA, EXPERT, PIPELINE, TENSOR, attention_groups, size
from advisor_mcp.linting.unit import Setting, Unit

SGLANG = ("sglang",)


@rule("SG001", "ranks-not-divisible-by-nodes", tools=SGLANG, harm="crash", causes=("nnodes-divisibility",))
def ranks_not_divisible_by_nodes(unit: Unit, job: Job) -> Found:
    """Allow ranks-not-divisible-by-nodes.

    ## What it does
    Checks that tensor times pipeline parallelism is a multiple of `--nnodes`.

    ## Why is this bad?
    SGLang stops: "tp_size must be divisible by number of nodes". The sizes are those of the whole server, not of a node.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 8 --nnodes 3 --node-rank 0 --dist-init-addr 10.0.0.1:5000
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 8 --nnodes 2 --node-rank 0 --dist-init-addr 10.0.0.1:5000
    ```

    ## Versions
    All.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    - sglang 0.4.6.post5, srt/server_args.py, check_server_args
    """
    nodes, tensor, pipeline = unit.number("nnodes", 1), size(unit, TENSOR), size(unit, PIPELINE)
    if nodes and tensor and pipeline and tensor * pipeline % nodes:
        message = f"{tensor * pipeline} ranks (tp-size x pp-size) cannot be spread evenly over {nodes:.12g} nodes"
        yield Problem(unit["nnodes"], message, None, _given(unit, TENSOR, PIPELINE))


@rule("SG002", "replicas-over-several-nodes", tools=SGLANG, harm="crash", causes=("dp-multi-node",))
def replicas_over_several_nodes(unit: Unit, job: Job) -> Found:
    r"""Allow replicas-over-several-nodes.

    ## What it does
    Finds data parallelism over several nodes without data-parallel attention.

    ## Why is this bad?
    SGLang stops: "multi-node data parallel is not supported unless dp attention!" Replicas on several machines are separate
    servers behind a router.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 8 --dp-size 2 --nnodes 2 --node-rank 0 \
      --dist-init-addr 10.0.0.1:5000
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 8 --dp-size 2 --nnodes 2 --node-rank 0 \
      --dist-init-addr 10.0.0.1:5000 --enable-dp-attention
    ```

    ## Versions
    All. Recent versions call the attention's groups `--attn-dp-size`.

    ## References
    - sglang 0.5.9, srt/server_args.py, check_server_args
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    replicas, nodes = size(unit, DATA), unit.number("nnodes", 1)
    if replicas and nodes and replicas > 1 and nodes > 1 and unit.absent("enable_dp_attention"):
        setting = unit.setting(*DATA)
        if setting is not None:
            message = f"{replicas} replicas over {nodes:.12g} nodes need data-parallel attention, or a router and separate servers"
            fix = (
                add_after(setting, "--enable-dp-attention")
                if setting.syntax == "shell"
                else advise("set enable-dp-attention")
            )
            yield Problem(setting, message, fix, (unit["nnodes"],))


@rule("SG003", "attention-groups-not-dividing", tools=SGLANG, harm="crash", causes=("dp-attention-divisibility",))
def attention_groups_not_dividing(unit: Unit, job: Job) -> Found:
    """Allow attention-groups-not-dividing.

    ## What it does
    Checks that tensor parallelism is a multiple of the number of data-parallel attention groups.

    ## Why is this bad?
    SGLang stops at an assertion without text: `tp_size % dp_size == 0`. With data-parallel attention the groups are part of the
    tensor-parallel ranks and add none.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 3 --enable-dp-attention
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 4 --enable-dp-attention
    ```

    ## Versions
    All that have the option.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_data_parallelism
    - sglang 0.5.23, srt/arg_groups/parallel_hook.py, handle_data_parallelism
    """
    groups, tensor = attention_groups(unit), size(unit, TENSOR)
    setting = unit.setting("attn_dp_size", *DATA)
    if groups and tensor and setting is not None and groups > 1 and tensor % groups:
        below = math.gcd(int(tensor), int(groups))
        message = f"attention is split into {groups} groups, which do not divide tp-size = {tensor}"
        yield Problem(setting, message, set_value(setting, below), _given(unit, TENSOR))


@rule(
    "SG004", "attention-groups-of-one", tools=SGLANG, harm="ignored", severity="warning", causes=("dp-attention-off",)
)
def attention_groups_of_one(unit: Unit, job: Job) -> Found:
    """Allow attention-groups-of-one.

    ## What it does
    Finds `--enable-dp-attention` (or `--enable-dp-lm-head`) where `--dp-size` is 1 or not set.

    ## Why is this bad?
    SGLang turns both off without a word, so the cache of an MLA model is copied to every rank. Versions before 0.5 stop:
    "Please set a dp-size > 1".

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-dp-attention
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-dp-attention --dp-size 8
    ```

    ## Versions
    All that have the option. DeepSeek V3.2 sets the size itself in recent versions.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_data_parallelism
    - sglang 0.4.10.post2, srt/server_args.py, __post_init__
    """
    setting = unit.setting("enable_dp_attention", "enable_dp_lm_head")
    groups = size(unit, ("attn_dp_size",)) if "attn_dp_size" in unit else size(unit, DATA)
    sparse = "v3.2" in str(_model(unit)).lower() or "glm-5" in str(_model(unit)).lower()
    if setting is None or setting.value is False or groups != 1 or unit.open or sparse:
        return
    tensor, given = size(unit, TENSOR), unit.setting("attn_dp_size", *DATA)
    fix = set_value(given, tensor or 2) if given is not None else add_after(setting, "--dp-size", tensor or 2)
    if setting.syntax != "shell" and given is None:
        fix = advise("set dp-size")
    yield Problem(setting, f"{setting.written} is turned off, because dp-size is 1", fix, _given(unit, DATA))


@rule("SG005", "output-layer-without-attention-groups", tools=SGLANG, harm="crash", causes=("dp-lm-head",))
def output_layer_without_attention_groups(unit: Unit, job: Job) -> Found:
    """Allow output-layer-without-attention-groups.

    ## What it does
    Finds `--enable-dp-lm-head` with data parallelism but without `--enable-dp-attention`.

    ## Why is this bad?
    SGLang stops: "Please enable dp attention when setting enable_dp_lm_head".

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 8 --enable-dp-lm-head
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --dp-size 8 --enable-dp-lm-head --enable-dp-attention
    ```

    ## Versions
    All that have the option.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_data_parallelism
    """
    setting, replicas = unit.setting("enable_dp_lm_head"), size(unit, DATA)
    if setting is None or not replicas or replicas == 1 or not unit.absent("enable_dp_attention", "attn_dp_size"):
        return
    fix = (
        add_after(setting, "--enable-dp-attention") if setting.syntax == "shell" else advise("set enable-dp-attention")
    )
    yield Problem(setting, "the output layer is split over data-parallel groups, but attention is not", fix)


@rule("SG006", "address-of-first-node-missing", tools=SGLANG, harm="hang", causes=("dist-init-addr",))
def address_of_first_node_missing(unit: Unit, job: Job) -> Found:
    """Allow address-of-first-node-missing.

    ## What it does
    Checks a server of several nodes: that `--dist-init-addr` is given as HOST:PORT, that the host is one which other machines
    can reach, and that `--node-rank` is below `--nnodes`.

    ## Why is this bad?
    Without an address, or with `localhost`, every node waits for the others on its own machine until it times out. Without a
    port SGLang stops. Ranks count from 0.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 16 --nnodes 2 --node-rank 0 --dist-init-addr 127.0.0.1:5000
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --tp-size 16 --nnodes 2 --node-rank 0 --dist-init-addr 10.0.0.1:5000
    ```

    ## Versions
    All.

    ## References
    - sglang 0.5.9, srt/server_args.py, PortArgs.init_new
    - sglang documentation, references/multi_node_deployment
    """
    nodes, rank = unit.number("nnodes", 1), unit.number("node_rank", 0)
    if nodes is None or nodes < 2:
        return
    address = unit.setting("dist_init_addr", "nccl_init_addr")
    if address is None and not unit.open and "use_ray" not in unit:
        yield Problem(
            unit["nnodes"],
            f"{nodes:.12g} nodes need the address of the first one",
            advise("add --dist-init-addr HOST:PORT"),
        )
    elif address is not None and isinstance(address.value, str):
        host, colon, _ = address.value.rpartition(":")
        if not colon:
            yield Problem(
                address, "the address of the first node has no port", set_value(address, f"{address.value}:5000")
            )
        elif host.removeprefix("tcp://") in ("127.0.0.1", "localhost", "0.0.0.0", ""):
            message = f"the other nodes cannot reach the first one at {address.value}"
            yield Problem(address, message, advise("use the first node's own address"), (unit["nnodes"],))
    if rank is not None and rank >= nodes:
        yield Problem(
            unit["node_rank"],
            f"node-rank is {rank:.12g}, and the ranks of {nodes:.12g} nodes are 0 to {nodes - 1:.12g}",
        )


@rule("SG007", "dense-layers-size", tools=SGLANG, harm="crash", causes=("moe-dense-tp",))
def dense_layers_size(unit: Unit, job: Job) -> Found:
    """Allow dense-layers-size.

    ## What it does
    Checks that `--moe-dense-tp-size` is 1 (or, from 0.5.14 on, the tensor-parallel size).

    ## Why is this bad?
    SGLang stops: "moe_dense_tp_size only support 1 and None currently".

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --moe-dense-tp-size 4
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --moe-dense-tp-size 1
    ```

    ## Versions
    All that have the option.

    ## References
    - sglang 0.5.9, srt/server_args.py, check_server_args
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    dense, tensor = unit.number("moe_dense_tp_size"), size(unit, TENSOR)
    if dense is None or tensor is None or dense == 1 or (dense == tensor and unit.since("0.5.10")):
        return
    setting = unit["moe_dense_tp_size"]
    yield Problem(setting, f"dense layers are split over {dense:.12g} ranks, and 1 is possible", set_value(setting, 1))


@rule("SG008", "balancing-experts-of-one-rank", tools=SGLANG, harm="crash", causes=("eplb",))
def balancing_without_expert_parallelism(unit: Unit, job: Job) -> Found:
    """Allow balancing-experts-of-one-rank.

    ## What it does
    Finds `--enable-eplb` where experts are not spread: `--ep-size` is 1 or not set, and no all-to-all backend sets it.

    ## Why is this bad?
    SGLang stops at an assertion without text: `ep_size > 1`.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-eplb
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-eplb --ep-size 8
    ```

    ## Versions
    All that have the option.

    ## References
    - sglang 0.5.9, srt/server_args.py, _handle_eplb_and_dispatch
    """
    setting, experts = unit.setting("enable_eplb"), size(unit, EXPERT)
    if setting is None or setting.value is False or unit.open:
        return
    if experts == 1 and not _spreads(unit):
        given = unit.setting(*EXPERT)
        fix = (
            set_value(given, size(unit, TENSOR) or 2)
            if given is not None
            else add_after(setting, "--ep-size", size(unit, TENSOR) or 2)
        )
        yield Problem(
            setting, "experts are balanced over ranks, but they are not spread over ranks", fix, _given(unit, EXPERT)
        )


@rule(
    "SG009", "graphs-off-with-normal-dispatch", tools=SGLANG, harm="slow", severity="warning", causes=("deepep-normal",)
)
def graphs_off_with_normal_dispatch(unit: Unit, job: Job) -> Found:
    """Allow graphs-off-with-normal-dispatch.

    ## What it does
    Finds `--deepep-mode normal` in a server that decodes.

    ## Why is this bad?
    SGLang turns CUDA graphs off: decoding is slower. `auto` uses the normal mode for prompts and the fast one for decoding.

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --moe-a2a-backend deepep --deepep-mode normal
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --moe-a2a-backend deepep --deepep-mode auto
    ```

    ## Versions
    All that have the option. For a prefill server of a disaggregated deployment it is right.

    ## References
    - sglang 0.5.23, srt/arg_groups/moe_hook.py
    - sglang 0.5.9, srt/server_args.py, _handle_a2a_moe
    """
    deepep = unit.text("moe_a2a_backend", "") == "deepep" or unit.truth("enable_deepep_moe", False)
    graphs = unit.absent("disable_cuda_graph")
    decodes = unit.text("disaggregation_mode", "null") in ("null", "decode")
    if deepep and graphs and decodes and unit.text("deepep_mode", "auto") == "normal":
        setting = unit["deepep_mode"]
        yield Problem(setting, "deepep-mode is normal, which turns CUDA graphs off", set_value(setting, "auto"))


@rule("SG010", "batch-overlap-without-dispatch", tools=SGLANG, harm="crash", causes=("tbo",))
def batch_overlap_without_dispatch(unit: Unit, job: Job) -> Found:
    """Allow batch-overlap-without-dispatch.

    ## What it does
    Finds `--enable-two-batch-overlap` without a `--moe-a2a-backend` (and, from 0.5.15 on, without data-parallel attention).

    ## Why is this bad?
    SGLang stops: "When enabling two batch overlap, moe_a2a_backend cannot be 'none'".

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-two-batch-overlap
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp-size 8 --enable-two-batch-overlap --moe-a2a-backend deepep
    ```

    ## Versions
    0.5.9 and later.

    ## References
    - sglang 0.5.9, srt/server_args.py, check_server_args
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_two_batch_overlap
    """
    setting = unit.setting("enable_two_batch_overlap")
    backend = unit.text("moe_a2a_backend", "none")
    older = unit.truth("enable_deepep_moe", False) is not False
    if setting is None or setting.value is False or backend != "none" or older or unit.open or unit.before("0.5.9"):
        return
    if attention_groups(unit) != 1 and unit.since("0.5.15"):
        return
    fix = (
        add_after(setting, "--moe-a2a-backend", "deepep")
        if setting.syntax == "shell"
        else advise("set moe-a2a-backend")
    )
    yield Problem(setting, "two batches overlap only where an all-to-all backend spreads the experts", fix)


@rule("SG011", "runner-spreads-experts-otherwise", tools=SGLANG, harm="crash", causes=("moe-runner-ep",))
def runner_spreads_experts_otherwise(unit: Unit, job: Job) -> Found:
    """Allow runner-spreads-experts-otherwise.

    ## What it does
    Checks `--moe-runner-backend` against `--ep-size`: the FlashInfer CUTLASS and CuTe kernels take 1 or the tensor-parallel
    size, the Triton kernels and FP8 on CUTLASS take 1.

    ## Why is this bad?
    SGLang stops: "The expert parallel size must be 1 or the same as the tensor parallel size".

    ## Example
    ```bash launch.sh
    python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp-size 8 --ep-size 4 --moe-runner-backend triton_kernel
    ```

    ## Use instead
    ```bash launch.sh
    python -m sglang.launch_server --model-path openai/gpt-oss-120b --tp-size 8 --ep-size 1 --moe-runner-backend triton_kernel
    ```

    ## Versions
    0.5.3 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/moe_hook.py
    - sglang 0.5.6.post2, srt/server_args.py, _handle_moe_kernel_config
    """
    runner, experts, tensor = unit.text("moe_runner_backend", "auto"), size(unit, EXPERT), size(unit, TENSOR)
    setting = unit.setting(*EXPERT)
    if setting is None or experts is None or tensor is None or experts == 1 or unit.before("0.5.3"):
        return
    fp8 = runner == "cutlass" and unit.text("quantization", "") in ("fp8", "mxfp8")
    if runner == "triton_kernel" or fp8:
        yield Problem(setting, f"{runner} takes no expert parallelism, and ep-size is {experts}", set_value(setting, 1))
    elif runner in ("flashinfer_cutlass", "flashinfer_cutedsl") and experts != tensor:
        message = f"{runner} takes an ep-size of 1 or tp-size = {tensor}, and it is {experts}"
        yield Problem(setting, message, set_value(setting, tensor), _given(unit, TENSOR))


@rule("SG012", "pipeline-stops-with", tools=SGLANG, harm="crash", causes=("pp-conflict",))
def pipeline_stops_with(unit: Unit, job: Job) -> Found:
    """Allow pipeline-stops-with.

    ## What it does
    Finds pipeline parallelism with speculative decoding or `--enable-mixed-chunk`.

    ## Why is this bad?
    SGLang stops: "Pipeline parallelism is not compatible with overlap schedule, speculative decoding, mixed chunked prefill".

    ## Example
    ```bash launch.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --pp-size 2 --enable-mixed-chunk
    ```

    ## Use instead
    ```bash launch.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-32B --pp-size 2
    ```

    ## Versions
    Up to 0.5.14 (mixed chunks up to 0.5.9).

    ## References
    - sglang 0.5.9, srt/server_args.py, check_server_args
    - sglang 0.5.14, srt/server_args.py, check_server_args
    """
    stages = size(unit, PIPELINE)
    if not stages or stages < 2 or unit.version is None or unit.since("0.5.15"):
        return
    other = unit.setting("speculative_algorithm", "speculative_algo")
    if other is None and unit.before("0.5.10"):
        other = unit.setting("enable_mixed_chunk")
    if other is not None and other.value is not False:
        message = f"{other.written} is set, which pipeline parallelism does not take (SGLang {unit.target})"
        yield Problem(other, message, remove(other), _given(unit, PIPELINE))


def _given(unit: Unit, *names: tuple[str, ...]) -> tuple[Setting, ...]:
    return tuple(s for group in names if (s := unit.setting(*group)) is not None)


def _model(unit: Unit) -> object:
    named = unit.named("model")
    return named.value if named is not None else ""


def _spreads(unit: Unit) -> bool:
    """Whether an all-to-all backend is set, which takes all tensor-parallel ranks for the experts."""
    older = unit.truth("enable_deepep_moe", False) is not False or unit.truth("enable_ep_moe", False) is not False
    return older or unit.text("moe_a2a_backend", "none") != "none"
