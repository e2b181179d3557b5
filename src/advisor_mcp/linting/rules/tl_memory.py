"""TensorRT-LLM's memory: the cache's share of the GPU, its size against the longest sequence, its other tiers."""

from advisor_mcp.linting.edits import set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, Skipped, rule
from advisor_mcp.linting.unit import Unit

TRTLLM = ("tensorrt-llm",)
# The share of the free memory that the cache takes, as trtllm-serve, the configuration and Triton's parameters call it.
SHARES = (
    "kv_cache_free_gpu_memory_fraction",
    "free_gpu_memory_fraction",
    "kv_cache_config.free_gpu_memory_fraction",
    "kv_cache_free_gpu_mem_fraction",
)
SMALL = 0.3
BYTES_A_TOKEN = 65536  # less than any model of more than a billion parameters takes for a token of its cache


@rule("TL001", "cache-share-out-of-range", tools=TRTLLM, harm="crash", causes=("kv-fraction-range",))
def cache_share_out_of_range(unit: Unit, job: Job) -> Found:
    """Allow cache-share-out-of-range.

    ## What it does
    Checks that the cache's share of the free memory is more than 0 and at most 1, and warns above 0.95.

    ## Why is this bad?
    It is a fraction of what is free after the weights are loaded. Above 1 the server stops or runs out of memory at once, and
    close to 1 nothing is left for activations of long prompts.

    ## Example
    ```yaml config.yaml
    backend: pytorch
    kv_cache_config:
      free_gpu_memory_fraction: 90
    cuda_graph_config: {}
    ```

    ## Use instead
    ```yaml config.yaml
    backend: pytorch
    kv_cache_config:
      free_gpu_memory_fraction: 0.9
    cuda_graph_config: {}
    ```

    ## Versions
    All.

    ## References
    - NVIDIA/TensorRT-LLM#486
    - TensorRT-LLM documentation, features/kvcache
    """
    setting = unit.setting(*SHARES)
    share = unit.number(setting.name) if setting is not None else None
    if setting is None or share is None or 0 < share <= 0.95:
        return
    severity: Severity | None = "warning" if 0 < share <= 1 else None
    said = "leaves nothing for activations" if severity else "is no fraction between 0 and 1"
    yield Problem(
        setting,
        f"a share of {share:.12g} {said}",
        set_value(setting, share / 100 if 1 < share <= 95 else 0.9),
        (),
        severity,
    )


@rule("TL002", "cache-share-small", tools=TRTLLM, harm="crash", severity="warning", causes=("kv-memory",))
def cache_share_small(unit: Unit, job: Job) -> Found:
    """Allow cache-share-small.

    ## What it does
    Finds a cache that is given less than three tenths of the free memory and no number of tokens. A warning in Triton's
    parameters, an info elsewhere.

    ## Why is this bad?
    The cache has to hold one sequence of full length: "maxTokensInPagedKvCache must be large enough to process at least 1
    sequence to completion". Otherwise few requests run at a time, and memory that is paid for stays empty.

    ## Example
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.2
    batch_scheduler_policy: guaranteed_no_evict
    decoupled_mode: true
    ```

    ## Use instead
    ```yaml params.yaml
    kv_cache_free_gpu_mem_fraction: 0.9
    batch_scheduler_policy: guaranteed_no_evict
    decoupled_mode: true
    ```

    ## Versions
    All. It is right where several servers share a GPU.

    ## References
    - NVIDIA/TensorRT-LLM#494
    - NVIDIA/TensorRT-LLM#542
    - triton-inference-server/tensorrtllm_backend#168
    - triton-inference-server/tensorrtllm_backend#59
    """
    setting = unit.setting(*SHARES)
    share = unit.number(setting.name) if setting is not None else None
    tokens = unit.setting("max_tokens_in_paged_kv_cache", "kv_cache_config.max_tokens")
    said = tokens is not None and str(tokens.value) not in ("", "None", "0")
    if setting is not None and share is not None and 0 < share < SMALL and not said and len(job.others(*TRTLLM)) == 1:
        severity: Severity | None = None if unit.scope == "triton" else "info"
        message = f"the cache takes {share:.12g} of the free memory, in which a request of full length may not fit"
        yield Problem(setting, message, set_value(setting, 0.9), (), severity)


@rule("TL003", "sequence-longer-than-the-gpu", tools=TRTLLM, harm="oom", severity="warning", causes=("max-seq-len",))
def sequence_longer_than_the_gpu(unit: Unit, job: Job) -> Found:
    """Allow sequence-longer-than-the-gpu.

    ## What it does
    Compares `max_seq_len` with the GPU's memory, where the model is not known: a token is counted with 64 KiB of cache over all
    tensor-parallel ranks, less than a model of 8 billion parameters takes.

    ## Why is this bad?
    Buffers and cache are made for the longest sequence. With the million tokens that some models allow the server does not
    start: "Failed to create instance: out of memory (TRTGptModel maxSequenceLen: 1048576)".

    ## Example
    ```yaml params.yaml gpu=l4-24gb
    max_seq_len: 1048576
    kv_cache_free_gpu_mem_fraction: 0.9
    decoupled_mode: true
    ```

    ## Use instead
    ```yaml params.yaml gpu=l4-24gb
    max_seq_len: 32768
    kv_cache_free_gpu_mem_fraction: 0.9
    decoupled_mode: true
    ```

    ## Versions
    All.

    ## References
    - triton-inference-server/tensorrtllm_backend#577
    """
    length, ranks = unit.number("max_seq_len"), unit.size("tensor_parallel")
    setting = unit.setting("max_seq_len")
    if setting is None or not length or ranks is None or length < 100_000 or job.model(unit) is not None:
        return
    memory = job.gpu.memory_bytes if job.gpu is not None else None
    if memory is None:
        yield Skipped("the GPU")
    elif length * BYTES_A_TOKEN / ranks > memory:
        gib = length * BYTES_A_TOKEN / ranks / 2**30
        has = f"{memory / 2**30:.0f} GiB"
        message = f"a sequence of {length:.12g} tokens takes at least {gib:.0f} GiB of cache, and the GPU has {has}"
        yield Problem(setting, message, set_value(setting, 32768, why="or the length that you serve"))


@rule(
    "TL004", "host-cache-in-gigabytes", tools=TRTLLM, harm="ignored", severity="warning", causes=("host-cache-bytes",)
)
def host_cache_in_gigabytes(unit: Unit, job: Job) -> Found:
    """Allow host-cache-in-gigabytes.

    ## What it does
    Finds a `host_cache_size` of less than a megabyte.

    ## Why is this bad?
    It is in bytes. `64` is no room for a single block, so nothing is kept in host memory.

    ## Example
    ```yaml config.yaml
    kv_cache_config:
      host_cache_size: 64
    cuda_graph_config: {}
    ```

    ## Use instead
    ```yaml config.yaml
    kv_cache_config:
      host_cache_size: 68719476736
    cuda_graph_config: {}
    ```

    ## Versions
    All.

    ## References
    - TensorRT-LLM (2026), tensorrt_llm/llmapi/llm_args.py, KvCacheConfig
    """
    setting = unit.setting("kv_cache_config.host_cache_size", "kv_host_cache_bytes", "kv_cache_host_memory_bytes")
    size = unit.number(setting.name) if setting is not None else None
    if setting is not None and size is not None and 0 < size < 2**20:
        message = f"the host cache has {size:.12g} bytes; it is given in bytes"
        yield Problem(setting, message, set_value(setting, int(size * 2**30)))


@rule("TL005", "batch-larger-than-step", tools=TRTLLM, harm="slow", severity="warning", causes=("batch-tokens",))
def batch_larger_than_step(unit: Unit, job: Job) -> Found:
    """Allow batch-larger-than-step.

    ## What it does
    Compares `max_batch_size` with `max_num_tokens`.

    ## Why is this bad?
    Every request that decodes takes its tokens of a step. Those beyond `max_num_tokens` wait, so the batch never reaches its
    size, and the memory for it is wasted.

    ## Example
    ```yaml config.yaml
    max_batch_size: 2048
    max_num_tokens: 1024
    cuda_graph_config: {}
    ```

    ## Use instead
    ```yaml config.yaml
    max_batch_size: 2048
    max_num_tokens: 8192
    cuda_graph_config: {}
    ```

    ## Versions
    All.

    ## References
    - TensorRT-LLM documentation, performance/performance-tuning-guide, tuning max batch size and max num tokens
    """
    batch, tokens = unit.number("max_batch_size"), unit.number("max_num_tokens")
    setting = unit.setting("max_num_tokens")
    if setting is not None and batch is not None and tokens is not None and batch > tokens:
        message = f"{batch:.12g} requests at a time take at least as many tokens, and a step holds {tokens:.12g}"
        yield Problem(setting, message, set_value(setting, int(batch)), (unit["max_batch_size"],))
