"""SGLang's memory: the radix cache and what stands on it, pages, chunks, the share of the GPU."""

import re

from advisor_mcp.linting.edits import add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._sg import algorithm, attention_groups
from advisor_mcp.linting.unit import Unit

SGLANG = ("sglang",)


@rule("SG020", "cache-layers-without-radix-cache", tools=SGLANG, harm="crash", causes=("flag-conflict",))
def cache_layers_without_radix_cache(unit: Unit, job: Job) -> Found:
    """Allow cache-layers-without-radix-cache.

    ## What it does
    Finds `--enable-hierarchical-cache` or `--enable-lmcache` with `--disable-radix-cache`.

    ## Why is this bad?
    SGLang stops: "The arguments enable-hierarchical-cache and disable-radix-cache are mutually exclusive".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-hierarchical-cache --disable-radix-cache
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-hierarchical-cache
    ```

    ## Versions
    All that have the options.

    ## References
    - sgl-project/sglang#5236
    - sgl-project/sglang#18289
    - sglang 0.5.23, srt/arg_groups/kv_cache_hook.py
    """
    off = unit.setting("disable_radix_cache")
    if off is None or off.value is False:
        return
    for name in ("enable_hierarchical_cache", "enable_lmcache"):
        setting = unit.setting(name)
        if setting is not None and setting.value is not False:
            yield Problem(off, f"{off.written} takes away what {setting.written} stands on", remove(off), (setting,))


@rule("SG021", "external-cache-conflicts", tools=SGLANG, harm="crash", causes=("lmcache-conflict",))
def external_cache_conflicts(unit: Unit, job: Job) -> Found:
    """Allow external-cache-conflicts.

    ## What it does
    Finds `--enable-lmcache` with `--enable-hierarchical-cache`, speculative decoding, data-parallel attention or
    disaggregation.

    ## Why is this bad?
    SGLang stops: "--enable-lmcache and --enable-hierarchical-cache are mutually exclusive".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-lmcache --enable-hierarchical-cache
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-lmcache
    ```

    ## Versions
    0.5.15 and later check it. Before, the first of the two caches that is made is used.

    ## References
    - sglang 0.5.23, srt/arg_groups/kv_cache_hook.py
    """
    setting = unit.setting("enable_lmcache")
    if setting is None or setting.value is False or unit.before("0.5.15"):
        return
    other = unit.setting("enable_hierarchical_cache") or algorithm(unit)[0]
    groups, role = attention_groups(unit), unit.text("disaggregation_mode", "null")
    if other is None and groups is not None and groups > 1:
        other = unit.setting("enable_dp_attention", "attn_dp_size")
    if other is None and role not in ("null", None):
        other = unit["disaggregation_mode"]
    if other is not None and other.value is not False:
        yield Problem(other, f"{other.written} does not go with {setting.written}", remove(other), (setting,))


@rule("SG022", "chunk-not-of-whole-pages", tools=SGLANG, harm="crash", causes=("chunk-page",))
def chunk_not_of_whole_pages(unit: Unit, job: Job) -> Found:
    """Allow chunk-not-of-whole-pages.

    ## What it does
    Checks that `--chunked-prefill-size` is a multiple of `--page-size`.

    ## Why is this bad?
    SGLang stops: "chunked_prefill_size must be divisible by page_size".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --chunked-prefill-size 4000 --page-size 64
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --chunked-prefill-size 4032 --page-size 64
    ```

    ## Versions
    All; with data-parallel attention it is the chunk divided by the number of groups that counts.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    chunk, page, groups = unit.number("chunked_prefill_size"), unit.number("page_size"), attention_groups(unit)
    if not chunk or not page or chunk <= 0 or not groups or unit.text("disaggregation_mode", "null") == "decode":
        return
    whole = page * groups
    if chunk // groups % page:
        setting = unit["chunked_prefill_size"]
        share = f" for each of {groups} groups" if groups > 1 else ""
        message = f"a chunk of {chunk:.12g} tokens{share} is no whole number of pages of {page:.12g}"
        yield Problem(setting, message, set_value(setting, int(-(-chunk // whole) * whole)), (unit["page_size"],))


@rule("SG023", "memory-share-impossible", tools=SGLANG, harm="crash", causes=("mem-fraction-range",))
def memory_share_impossible(unit: Unit, job: Job) -> Found:
    """Allow memory-share-impossible.

    ## What it does
    Checks that `--mem-fraction-static` is more than 0 and less than 1, and warns above 0.95.

    ## Why is this bad?
    It is the part of the GPU's memory for weights and cache. The rest holds activations and CUDA graphs; without a rest the
    server runs out of memory while it captures graphs or at the first long prompt.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --mem-fraction-static 90
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --mem-fraction-static 0.9
    ```

    ## Versions
    All.

    ## References
    - sglang documentation, advanced_features/hyperparameter_tuning
    - sgl-project/sglang#5893
    - sgl-project/sglang#5634
    """
    share, setting = unit.number("mem_fraction_static"), unit.setting("mem_fraction_static")
    if share is None or setting is None or 0 < share <= 0.95:
        return
    better = share / 100 if 1 < share <= 95 else 0.9
    severity: Severity | None = "warning" if 0 < share < 1 else None
    message = (
        f"{share:.12g} of the memory for weights and cache leaves next to nothing for activations and CUDA graphs"
        if severity
        else f"{setting.written} is {share:.12g}, and it is a fraction between 0 and 1"
    )
    yield Problem(setting, message, set_value(setting, f"{better:.12g}"), (), severity)


@rule("SG024", "host-cache-too-small", tools=SGLANG, harm="crash", causes=("hicache-ratio",))
def host_cache_too_small(unit: Unit, job: Job) -> Found:
    """Allow host-cache-too-small.

    ## What it does
    Finds an `--hicache-ratio` of 1 or less where no `--hicache-size` is given.

    ## Why is this bad?
    SGLang stops: "The host memory should be larger than the device memory with the current protocol".

    ## Example
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-hierarchical-cache --hicache-ratio 0.5
    ```

    ## Use instead
    ```bash serve.sh sglang=0.5.9
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-hierarchical-cache --hicache-ratio 2
    ```

    ## Versions
    Up to 0.5.14.

    ## References
    - sglang 0.5.9, srt/mem_cache/memory_pool_host.py
    - sglang 0.5.14, srt/mem_cache/pool_host/base.py
    """
    ratio, setting = unit.number("hicache_ratio"), unit.setting("hicache_ratio")
    if (
        ratio is None
        or setting is None
        or ratio > 1
        or "hicache_size" in unit
        or "enable_hierarchical_cache" not in unit
    ):
        return
    if unit.version is not None and unit.before("0.5.15"):
        yield Problem(
            setting,
            f"the cache in host memory is {ratio:.12g} times the GPU's, and it has to be larger",
            set_value(setting, 2),
        )


@rule("SG025", "host-cache-not-on", tools=SGLANG, harm="ignored", severity="warning", causes=("hicache-off",))
def host_cache_not_on(unit: Unit, job: Job) -> Found:
    """Allow host-cache-not-on.

    ## What it does
    Finds options of the hierarchical cache (`--hicache-ratio`, `--hicache-size`, `--hicache-storage-backend`) without
    `--enable-hierarchical-cache`.

    ## Why is this bad?
    They have no effect: nothing is kept in host memory or storage.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --hicache-size 100
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --hicache-size 100 --enable-hierarchical-cache
    ```

    ## Versions
    All. A decode server that offloads its cache uses them without that option.

    ## References
    - sglang documentation, advanced_features/hicache_best_practices
    """
    setting = unit.setting("hicache_size", "hicache_ratio", "hicache_storage_backend")
    others = ("enable_hierarchical_cache", "disaggregation_decode_enable_offload_kvcache", "enable_hisparse")
    if setting is None or not unit.absent(*others) or unit.text("disaggregation_mode", "null") == "decode":
        return
    fix = (
        add_after(setting, "--enable-hierarchical-cache")
        if setting.syntax == "shell"
        else advise("set enable-hierarchical-cache")
    )
    yield Problem(setting, f"{setting.written} is set, but enable-hierarchical-cache is not", fix)


@rule("SG026", "offload-outside-decode-server", tools=SGLANG, harm="crash", causes=("decode-offload",))
def offload_outside_decode_server(unit: Unit, job: Job) -> Found:
    """Allow offload-outside-decode-server.

    ## What it does
    Finds `--disaggregation-decode-enable-offload-kvcache` where `--disaggregation-mode` is not `decode`.

    ## Why is this bad?
    SGLang stops: "only supported for decode side".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --disaggregation-decode-enable-offload-kvcache
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-hierarchical-cache
    ```

    ## Versions
    All that have the option.

    ## References
    - sglang 0.5.23, srt/arg_groups/kv_cache_hook.py
    """
    setting = unit.setting("disaggregation_decode_enable_offload_kvcache")
    mode = unit.text("disaggregation_mode", "null")
    if setting is not None and setting.value is not False and mode not in ("decode", None) and not unit.open:
        yield Problem(setting, "only a decode server offloads its cache this way", remove(setting))


@rule("SG027", "memory-saver-with-expandable-segments", tools=SGLANG, harm="crash", causes=("alloc-conf-sleep",))
def memory_saver_with_expandable_segments(unit: Unit, job: Job) -> Found:
    """Allow memory-saver-with-expandable-segments.

    ## What it does
    Finds `--enable-memory-saver` with `expandable_segments:True` in PyTorch's allocator settings.

    ## Why is this bad?
    The memory saver stops: "TorchMemorySaver is disabled for the current process because expandable_segments is not supported
    yet", so memory cannot be released to a trainer.

    ## Example
    ```bash serve.sh
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-memory-saver
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-memory-saver
    ```

    ## Versions
    All; the saver looks at the variable's old name.

    ## References
    - fzyzcjy/torch_memory_saver#24
    - fzyzcjy/torch_memory_saver#25
    """
    setting, saver = unit.env.get("PYTORCH_CUDA_ALLOC_CONF"), unit.setting("enable_memory_saver")
    if setting is None or saver is None or saver.value is False or not isinstance(setting.value, str):
        return
    if re.search(r"expandable_segments:\s*True", setting.value):
        rest = ",".join(part for part in setting.value.split(",") if "expandable_segments" not in part)
        fix = set_value(setting, rest) if rest else remove(setting)
        yield Problem(setting, "expandable segments are on, which the memory saver cannot have", fix, (saver,))


@rule("SG028", "graph-padding-with-compile", tools=SGLANG, harm="crash", causes=("graph-padding",))
def graph_padding_with_compile(unit: Unit, job: Job) -> Found:
    """Allow graph-padding-with-compile.

    ## What it does
    Finds `--disable-cuda-graph-padding` with `--enable-torch-compile`.

    ## Why is this bad?
    Every batch size is compiled on its own, which takes hours; recent versions stop: "--disable-cuda-graph-padding is
    incompatible with --enable-torch-compile".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --disable-cuda-graph-padding --enable-torch-compile
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-torch-compile
    ```

    ## Versions
    An error where no version or one after 0.5.14 is named, a warning before.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    padding, compile_ = unit.setting("disable_cuda_graph_padding"), unit.setting("enable_torch_compile")
    if padding is not None and compile_ is not None and padding.value is not False and compile_.value is not False:
        severity: Severity | None = "warning" if unit.before("0.5.15") else None
        message = "without padding every batch size is compiled on its own"
        yield Problem(padding, message, remove(padding), (compile_,), severity)


@rule(
    "SG029", "backend-without-graphs", tools=SGLANG, harm="slow", severity="warning", causes=("slow-attention-backend",)
)
def backend_without_graphs(unit: Unit, job: Job) -> Found:
    """Allow backend-without-graphs.

    ## What it does
    Finds `--attention-backend torch_native` or `flex_attention` on a GPU.

    ## Why is this bad?
    SGLang turns CUDA graphs off with them, and their kernels are for checking results: decoding is several times slower.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --attention-backend torch_native
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --attention-backend flashinfer
    ```

    ## Versions
    All. On a CPU `torch_native` is right.

    ## References
    - sglang 0.5.23, srt/arg_groups/attention_hook.py
    - sglang documentation, advanced_features/attention_backend
    """
    setting = unit.setting("attention_backend")
    device = unit.text("device", "cuda")
    if setting is not None and setting.value in ("torch_native", "flex_attention") and device == "cuda":
        message = f"{setting.value} turns CUDA graphs off"
        yield Problem(setting, message, remove(setting, why="SGLang chooses the fastest backend for the GPU"))
