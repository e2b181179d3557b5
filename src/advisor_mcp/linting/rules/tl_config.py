"""TensorRT-LLM's configuration: policies, names that were moved, experts, CUDA graphs, speculation."""

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.unit import Setting, Unit

TRTLLM = ("tensorrt-llm",)
POLICIES = ("max_utilization", "guaranteed_no_evict", "static_batch")
BATCHING = ("v1", "inflight_batching", "inflight_fused_batching")
DRAFTERS = (
    "MTP",
    "Medusa",
    "Eagle",
    "Eagle3",
    "Lookahead",
    "NGram",
    "DraftTarget",
    "SaveState",
    "AUTO",
    "PARD",
    "DFlash",
)
# Keys of the PyTorch configuration of early 2025, and where they are since 1.0.
MOVED = {
    "pytorch_backend_config": "the top level",
    "use_cuda_graph": "cuda_graph_config",
    "cuda_graph_batch_sizes": "cuda_graph_config.batch_sizes",
    "cuda_graph_max_batch_size": "cuda_graph_config.max_batch_size",
    "cuda_graph_padding_enabled": "cuda_graph_config.enable_padding",
    "enable_overlap_scheduler": "disable_overlap_scheduler, with the opposite value",
    "kv_cache_dtype": "kv_cache_config.dtype",
    "moe_backend": "moe_config.backend",
    "moe_max_num_tokens": "moe_config.max_num_tokens",
    "moe_load_balancer": "moe_config.load_balancer",
    "autotuner_enabled": "enable_autotuner",
    "enable_trtllm_decoder": "sampler_type",
    "enable_trtllm_sampler": "sampler_type",
    "torch_compile_enabled": "torch_compile_config",
    "torch_compile_fullgraph": "torch_compile_config.enable_fullgraph",
    "torch_compile_inductor_enabled": "torch_compile_config.enable_inductor",
    "torch_compile_piecewise_cuda_graph": "torch_compile_config.enable_piecewise_cuda_graph",
}
BUILD_GONE = {
    "max_output_len": "--max_seq_len (input and output together)",
    "use_custom_all_reduce": "nothing; it is chosen at run time",
    "multi_block_mode": "nothing; it is chosen at run time",
    "use_inflight_batching": "nothing; it is the default",
    "enable_context_fmha": "--context_fmha",
}


@rule("TL010", "unknown-scheduling-policy", tools=TRTLLM, harm="ignored", severity="warning", causes=("trt-policy",))
def unknown_scheduling_policy(unit: Unit, job: Job) -> Found:
    """Allow unknown-scheduling-policy.

    ## What it does
    Checks the scheduler's policy: `max_utilization`, `guaranteed_no_evict` or `static_batch`.

    ## Why is this bad?
    Triton's backend only warns ("batch_scheduler_policy parameter was not found or is invalid") and takes its default; the
    configuration of the LLM API stops. `guaranteed_completion` became `guaranteed_no_evict` in 2023.

    ## Example
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.9
    batch_scheduler_policy: guaranteed_completion
    decoupled_mode: true
    ```

    ## Use instead
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.9
    batch_scheduler_policy: guaranteed_no_evict
    decoupled_mode: true
    ```

    ## Versions
    All.

    ## References
    - triton-inference-server/tensorrtllm_backend#126
    - NVIDIA/TensorRT-LLM#4509
    """
    setting = unit.setting("batch_scheduler_policy", "scheduler_config.capacity_scheduler_policy")
    if setting is None or not isinstance(setting.value, str) or setting.value.lower() in ("", *POLICIES):
        return
    upper = setting.name != "batch_scheduler_policy"
    better = "max_utilization" if "util" in setting.value.lower() else "guaranteed_no_evict"
    severity: Severity | None = "error" if upper else None
    message = f"there is no policy {setting.value}; there are {', '.join(POLICIES)}"
    yield Problem(setting, message, set_value(setting, better.upper() if upper else better, safe=True), (), severity)


@rule("TL011", "unknown-batching-strategy", tools=TRTLLM, harm="crash", causes=("trt-batching",))
def unknown_batching_strategy(unit: Unit, job: Job) -> Found:
    """Allow unknown-batching-strategy.

    ## What it does
    Checks `gpt_model_type` and `batching_strategy` of Triton's parameters: `inflight_fused_batching`, `inflight_batching` or
    `V1`.

    ## Why is this bad?
    The model is not loaded: "Invalid gpt_model_type". With `V1` a batch waits for its longest request (reported as a warning).

    ## Example
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.9
    batching_strategy: inflight
    decoupled_mode: true
    ```

    ## Use instead
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.9
    batching_strategy: inflight_fused_batching
    decoupled_mode: true
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/TensorRT-LLM#478
    - tensorrtllm_backend documentation, docs/model_config.md
    """
    setting = unit.setting("batching_strategy", "gpt_model_type")
    if unit.scope != "triton" or setting is None or not isinstance(setting.value, str) or not setting.value:
        return
    if setting.value.lower() not in BATCHING:
        message = f"there is no strategy {setting.value}; there are inflight_fused_batching, inflight_batching and V1"
        yield Problem(setting, message, set_value(setting, "inflight_fused_batching"))
    elif setting.value.lower() == "v1":
        message = "with V1 a batch waits for its longest request"
        yield Problem(setting, message, set_value(setting, "inflight_fused_batching"), (), "warning")


@rule("TL012", "configuration-key-moved", tools=TRTLLM, harm="crash", severity="warning", causes=("trt-renamed-key",))
def configuration_key_moved(unit: Unit, job: Job) -> Found:
    """Allow configuration-key-moved.

    ## What it does
    Finds keys of the PyTorch backend's old configuration, which moved into sections or were renamed.

    ## Why is this bad?
    `trtllm-serve` stops: "Extra inputs are not permitted". An `enable_overlap_scheduler` that is taken over without thinking
    turns into its opposite.

    ## Example
    ```yaml config.yaml
    use_cuda_graph: true
    cuda_graph_padding_enabled: true
    kv_cache_config:
      free_gpu_memory_fraction: 0.8
    ```

    ## Use instead
    ```yaml config.yaml
    cuda_graph_config:
      enable_padding: true
    kv_cache_config:
      free_gpu_memory_fraction: 0.8
    ```

    ## Versions
    1.0 and later (early releases of 2025 have the old names); a warning where no version is named.

    ## References
    - NVIDIA/TensorRT-LLM#5680
    - NVIDIA/TensorRT-LLM#4174
    - NVIDIA/TensorRT-LLM#5634
    """
    if unit.scope != "yaml" or unit.program == "srt-slurm" or unit.before("1.0"):
        return
    severity: Severity | None = "error" if unit.version is not None else None
    for name, where in MOVED.items():
        setting = unit.setting(name)
        if setting is not None and setting.written == name:
            yield Problem(setting, f"{name} moved to {where}", _moved(setting, where), (), severity)


@rule("TL013", "expert-ranks-do-not-multiply", tools=TRTLLM, harm="crash", causes=("moe-tp-ep",))
def expert_ranks_do_not_multiply(unit: Unit, job: Job) -> Found:
    """Allow expert-ranks-do-not-multiply.

    ## What it does
    Checks that expert parallelism divides tensor parallelism, and that where both sizes of the experts are given their product
    is the tensor-parallel size.

    ## Why is this bad?
    The server stops: "moe_tp_size * moe_ep_size * moe_cluster_size must equal to moe_world_size".

    ## Example
    ```yaml config.yaml
    tensor_parallel_size: 8
    moe_expert_parallel_size: 8
    moe_tensor_parallel_size: 2
    cuda_graph_config: {}
    ```

    ## Use instead
    ```yaml config.yaml
    tensor_parallel_size: 8
    moe_expert_parallel_size: 4
    moe_tensor_parallel_size: 2
    cuda_graph_config: {}
    ```

    ## Versions
    All.

    ## References
    - TensorRT-LLM, tensorrt_llm/mapping.py
    """
    experts, tensor, slices = (
        unit.size("expert_parallel"),
        unit.size("tensor_parallel"),
        unit.number("moe_tensor_parallel_size"),
    )
    setting = unit.named("expert_parallel")
    others = ("moe_cluster_parallel_size", "cluster_size", "context_parallel_size", "cp_size", "dwdp_size")
    if setting is None or not experts or not tensor or any(name in unit for name in others):
        return
    if "moe_tensor_parallel_size" in unit:
        if slices and slices > 0 and experts > 0 and experts * slices != tensor:
            message = f"experts are split {experts} x {slices:.12g} ways, and there are {tensor} tensor-parallel ranks"
            fix = set_value(setting, int(tensor // slices)) if tensor % slices == 0 else None
            yield Problem(setting, message, fix, (unit["moe_tensor_parallel_size"],))
    elif experts > 0 and tensor % experts and unit.named("tensor_parallel") is not None:
        message = f"expert parallelism of {experts} does not divide tensor parallelism of {tensor}"
        yield Problem(setting, message, set_value(setting, tensor))


@rule("TL014", "graph-sizes-disagree", tools=TRTLLM, harm="crash", causes=("cuda-graph-sizes",))
def graph_sizes_disagree(unit: Unit, job: Job) -> Found:
    """Allow graph-sizes-disagree.

    ## What it does
    Checks that `cuda_graph_config.max_batch_size` is the largest of its `batch_sizes`, where both are given.

    ## Why is this bad?
    The server stops: "CudaGraphConfig.max_batch_size is incompatible with CudaGraphConfig.batch_sizes".

    ## Example
    ```yaml config.yaml
    cuda_graph_config:
      enable_padding: true
      max_batch_size: 256
      batch_sizes: [1, 2, 4, 8, 16, 32, 64, 128]
    ```

    ## Use instead
    ```yaml config.yaml
    cuda_graph_config:
      enable_padding: true
      max_batch_size: 128
      batch_sizes: [1, 2, 4, 8, 16, 32, 64, 128]
    ```

    ## Versions
    1.0 and later.

    ## References
    - TensorRT-LLM (2026), tensorrt_llm/llmapi/llm_args.py, BaseCudaGraphConfig
    """
    most, sizes = unit.number("cuda_graph_config.max_batch_size"), unit.value("cuda_graph_config.batch_sizes")
    if not most or not isinstance(sizes, list) or not sizes or not all(isinstance(size, int) for size in sizes):
        return
    if max(sizes) != most:
        setting = unit["cuda_graph_config.max_batch_size"]
        message = f"max_batch_size is {most:.12g}, and the largest of batch_sizes is {max(sizes)}"
        yield Problem(setting, message, set_value(setting, max(sizes)), (unit["cuda_graph_config.batch_sizes"],))


@rule("TL015", "unknown-drafter", tools=TRTLLM, harm="crash", causes=("trt-decoding-type",))
def unknown_drafter(unit: Unit, job: Job) -> Found:
    """Allow unknown-drafter.

    ## What it does
    Checks the spelling of `speculative_config.decoding_type`, and that Eagle, Eagle3 and DraftTarget name their draft model.

    ## Why is this bad?
    The server stops: "Invalid decoding type: eagle3". Capitals count.

    ## Example
    ```yaml config.yaml
    speculative_config:
      decoding_type: mtp
      max_draft_len: 3
    cuda_graph_config: {}
    ```

    ## Use instead
    ```yaml config.yaml
    speculative_config:
      decoding_type: MTP
      max_draft_len: 3
    cuda_graph_config: {}
    ```

    ## Versions
    All; Eagle3 is a name of its own since 1.2.

    ## References
    - TensorRT-LLM (2026), tensorrt_llm/llmapi/llm_args.py, DecodingBaseConfig
    """
    setting = unit.setting("speculative_config.decoding_type")
    if setting is None or not isinstance(setting.value, str):
        return
    exact = next((name for name in DRAFTERS if name.lower() == setting.value.lower()), None)
    section = unit.section("speculative_config")
    model = {"speculative_model", "speculative_model_dir", "draft_model", "pytorch_weights_path"} & set(section)
    if exact is not None and exact != setting.value:
        yield Problem(setting, f"the decoding type is spelt {exact}", set_value(setting, exact, safe=True))
    elif exact in ("Eagle", "Eagle3", "DraftTarget") and not model and not unit.open:
        yield Problem(setting, f"{exact} needs a draft model", advise("set speculative_config.speculative_model"))


@rule("TL016", "build-option-gone", tools=TRTLLM, harm="crash", severity="warning", causes=("trt-build-option",))
def build_option_gone(unit: Unit, job: Job) -> Found:
    """Allow build-option-gone.

    ## What it does
    Finds options of `trtllm-build` that were dropped: `--max_output_len`, `--use_custom_all_reduce`, `--multi_block_mode` and
    others.

    ## Why is this bad?
    `trtllm-build` stops: "unrecognized arguments". `--max_output_len` is part of `--max_seq_len` now.

    ## Example
    ```bash build.sh
    trtllm-build --checkpoint_dir ckpt --output_dir engine --max_input_len 4096 --max_output_len 1024
    ```

    ## Use instead
    ```bash build.sh
    trtllm-build --checkpoint_dir ckpt --output_dir engine --max_input_len 4096 --max_seq_len 5120
    ```

    ## Versions
    0.12 and later; a warning where no version is named.

    ## References
    - TensorRT-LLM documentation, release-notes, 0.11 and 0.12
    """
    if unit.scope != "build" or unit.before("0.12"):
        return
    for name, better in BUILD_GONE.items():
        setting = unit.setting(name)
        if setting is not None:
            fix = remove(setting) if better.startswith("nothing") else _length(unit, setting, better)
            severity: Severity | None = "error" if unit.version is not None else None
            yield Problem(setting, f"{setting.written} was dropped; use {better}", fix, (), severity)


def _moved(setting: Setting, where: str) -> Fix:
    if setting.name == "enable_overlap_scheduler" and setting.value is True:
        return remove(setting, why="it is on by default")
    if setting.name == "use_cuda_graph" and setting.value is True:
        return remove(setting, why="CUDA graphs are on by default")
    return advise(f"move it to {where}")


def _length(unit: Unit, setting: Setting, better: str) -> Fix:
    """Replace the output's length by the length of the whole sequence where both are known."""
    read, written = unit.number("max_input_len"), unit.number("max_output_len")
    if setting.name != "max_output_len" or read is None or written is None or "max_seq_len" in unit:
        return advise(f"use {better}")
    edit = set_value(setting, int(read + written)).edits[0]
    whole = type(edit)(edit.source, setting.key.start, edit.end, f"--max_seq_len {read + written:.12g}")
    return Fix(f"write --max_seq_len {read + written:.12g}", (whole,))
