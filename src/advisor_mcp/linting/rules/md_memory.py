"""Whether a server's weights and cache fit the GPUs it is given."""

from advisor_mcp.linting.edits import Fix, advise, set_value
from advisor_mcp.linting.job import GpuFacts, Job, ModelFacts
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.unit import Setting, Unit

UTILIZATION = {"vllm": ("gpu_memory_utilization", 0.9), "sglang": ("mem_fraction_static", 0.9)}
FORMATS = {
    "fp8": "fp8", "awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "bitsandbytes": "nf4", "mxfp4": "mxfp4",
    "modelopt_fp4": "nvfp4", "w8a8_int8": "int8", "w8a8_fp8": "fp8",
}  # fmt: skip
GIB = 2**30


def utilization(unit: Unit) -> tuple[float, Setting | None] | None:
    """The share of a GPU's memory that a server may use, and the setting that says so."""
    name, default = UTILIZATION[unit.tool]
    setting = unit.setting(name)
    value = unit.number(name, default)
    return None if value is None or not 0 < value <= 1 else (float(value), setting)


def _formats(unit: Unit) -> tuple[str | None, str]:
    quantization = FORMATS.get((unit.text("quantization") or "").lower())
    kv = unit.text("kv_cache_dtype", "auto") or "auto"
    return quantization, "fp8" if kv.startswith("fp8") else "auto"


def _ranks(unit: Unit) -> int | None:
    tensor, pipeline = unit.size("tensor_parallel"), unit.size("pipeline_parallel")
    return tensor * pipeline if tensor and pipeline else None


def _held(unit: Unit, model: ModelFacts, length: int) -> tuple[float, float] | None:
    """GiB of one GPU for the weights and for one sequence of `length` tokens."""
    ranks = _ranks(unit)
    if ranks is None:
        return None
    quantization, kv = _formats(unit)
    found = model.memory(length, 1, quantization=quantization, kv_dtype=kv)
    if found is None:
        billions = model.get("params_b")
        if not isinstance(billions, int | float):
            return None
        return billions * 1e9 * (
            2 if quantization is None else 1 if quantization in ("fp8", "int8") else 0.55
        ) / ranks / GIB, 0.0
    kv_heads = model.kv_heads or 1
    tensor = unit.size("tensor_parallel") or 1
    copies = max(1, tensor // kv_heads) if model.get("kv_lora_rank") is None else tensor
    return found[0] / ranks / GIB, found[1] * copies / ranks / GIB


@rule(
    "MD010", "weights-that-do-not-fit", tools=("vllm", "sglang"), harm="oom", causes=("gpu-mem-util-low", "weights-oom")
)
def weights_that_do_not_fit(unit: Unit, job: Job) -> Found:
    """Allow weights-that-do-not-fit.

    ## What it does
    Compares the weights of one rank, counted from the model's configuration, with the share of the GPU's memory that the
    server may use.

    ## Why is this bad?
    The server runs out of memory while it loads, or stops with "No available memory for the cache blocks".

    ## Example
    ```bash serve.sh gpu=a100-sxm-80gb
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.15
    ```

    ## Use instead
    ```bash serve.sh gpu=a100-sxm-80gb
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.9
    ```

    ## Versions
    All. Weights are counted exactly; activations and CUDA's own memory come on top, so that a run that only just passes
    this check may still fail.

    ## References
    - vllm 0.33.0, vllm/v1/core/kv_cache_planning.py
    - vllm-project/vllm#17431, vllm-project/vllm#10439
    """
    share, gpu, model = utilization(unit), job.gpu, job.model(unit)
    if share is None:
        return
    if gpu is None or model is None:
        if share[1] is not None and share[0] < 0.5:
            yield Skipped("the GPU" if gpu is None else "the model")
        return
    held = _held(unit, model, 1)
    if held is None or gpu.memory_bytes is None or unit.number("cpu_offload_gb", 0):
        return
    weights, budget = held[0], gpu.memory_bytes * share[0] / GIB
    if weights >= budget:
        yield Problem(
            _place(unit, share[1]),
            f"the weights take {weights:.1f} GiB of each GPU, and {share[0]:g} of a {gpu.name} are {budget:.1f} GiB",
            _more_memory(share[1], weights, gpu),
        )  # fmt: skip


def _place(unit: Unit, setting: Setting | None) -> Setting | Unit:
    return setting or unit.named("tensor_parallel") or unit.named("model") or unit


def _more_memory(setting: Setting | None, needed: float, gpu: GpuFacts) -> Fix:
    whole = (gpu.memory_bytes or 0) / GIB
    if setting is not None and needed < 0.8 * whole:
        return set_value(setting, 0.9)
    return advise("use more GPUs (tensor parallelism), a quantised checkpoint, or a GPU with more memory")


@rule(
    "MD011", "cache-that-does-not-fit", tools=("vllm", "sglang"), harm="crash", causes=("kv-memory", "gpu-mem-util-low")
)
def cache_that_does_not_fit(unit: Unit, job: Job) -> Found:
    """Allow cache-that-does-not-fit.

    ## What it does
    Compares the cache of one sequence of the longest length that the server promises with what the weights leave of the
    memory it may use.

    ## Why is this bad?
    vLLM stops at start: "the model's max seq len is larger than the maximum number of tokens that can be stored in KV
    cache". Without a given length the model's own is promised, often 128k tokens.

    ## Example
    ```bash serve.sh gpu=l4
    vllm serve Qwen/Qwen3-8B --max-model-len 40960
    ```

    ## Use instead
    ```bash serve.sh gpu=l4
    vllm serve Qwen/Qwen3-8B --max-model-len 8192
    ```

    ## Versions
    All. Newer vLLM accepts `--max-model-len auto`, which takes what fits.

    ## References
    - vllm 0.33.0, vllm/v1/core/kv_cache_planning.py
    - NVIDIA/TensorRT-LLM#494, triton-inference-server/tensorrtllm_backend#168
    """
    share, gpu, model = utilization(unit), job.gpu, job.model(unit)
    setting = unit.named("max_length")
    if setting is not None and unit.number(setting.name) is None:
        return
    if model is None or share is None:
        return
    length = unit.number(setting.name) if setting else model.max_positions
    if not length or length < 2:
        return
    if gpu is None or gpu.memory_bytes is None:
        if setting is not None and length >= 32768:
            yield Skipped("the GPU")
        return
    held = _held(unit, model, int(length))
    if held is None:
        return
    weights, cache = held
    budget = gpu.memory_bytes * share[0] / GIB
    room = budget - weights
    if not 0 < room < cache:
        return
    said = f"{setting.shown}" if setting else f"the model's own length of {int(length):,}"
    left = f"{room:.1f} GiB of {share[0]:g} of a {gpu.name}"
    message = f"{said} needs {cache:.1f} GiB of cache for one sequence, and the weights leave {left}"
    low = share[1]
    if low is not None and share[0] < 0.85 and gpu.memory_bytes * 0.9 / GIB - weights >= cache:
        yield Problem(low, message, set_value(low, 0.9), (setting,) if setting else ())
        return
    fits = int(length * room / cache) // 1024 * 1024
    if setting is not None and fits > 0:
        yield Problem(setting, message, set_value(setting, fits, why="about what fits"))
    else:
        where = setting or unit.named("model") or unit
        yield Problem(
            where, message, advise(f"set {unit.name_of('max_length')} to at most about {fits:,}, or use more GPUs")
        )
