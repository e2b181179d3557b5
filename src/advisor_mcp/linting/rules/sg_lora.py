"""SGLang's LoRA adapters: the memory for them, their number and what they do not go with."""

from advisor_mcp.linting.edits import add_after, advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.unit import Unit

SGLANG = ("sglang",)


@rule("SG040", "adapter-pool-unknown", tools=SGLANG, harm="crash", causes=("lora-pool",))
def adapter_pool_unknown(unit: Unit, job: Job) -> Found:
    """Allow adapter-pool-unknown.

    ## What it does
    Finds `--enable-lora` without `--lora-paths` where `--max-lora-rank` or `--lora-target-modules` is missing.

    ## Why is this bad?
    SGLang cannot size the memory for adapters and stops: "When no initial --lora-paths is provided, you need to specify both
    --max-lora-rank and --lora-target-modules for LoRA initialization".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-lora
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-lora --max-lora-rank 64 --lora-target-modules all
    ```

    ## Versions
    0.4.9 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/lora_hook.py
    - sglang 0.4.10.post2, srt/server_args.py, check_lora_server_args
    """
    setting = unit.setting("enable_lora")
    if setting is None or setting.value is False or not unit.absent("lora_paths"):
        return
    missing = [name for name in ("max_lora_rank", "lora_target_modules") if name not in unit]
    if missing:
        flags = " ".join(
            {"max_lora_rank": "--max-lora-rank 64", "lora_target_modules": "--lora-target-modules all"}[n]
            for n in missing
        )
        fix = add_after(setting, flags) if setting.syntax == "shell" else advise(f"set {flags}")
        yield Problem(setting, f"adapters are to be loaded later, but {' and '.join(missing)} is not set", fix)


@rule("SG041", "adapter-counts", tools=SGLANG, harm="crash", causes=("lora-counts",))
def adapter_counts(unit: Unit, job: Job) -> Found:
    """Allow adapter-counts.

    ## What it does
    Checks that `--max-loaded-loras` is at least `--max-loras-per-batch` (8 where it is not set) and at least the number of
    `--lora-paths`.

    ## Why is this bad?
    SGLang stops: "max_loaded_loras should be greater than or equal to max_loras_per_batch".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --max-loaded-loras 4
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --max-loaded-loras 8
    ```

    ## Versions
    0.4.10 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/lora_hook.py
    """
    loaded, batch, paths = (
        unit.number("max_loaded_loras"),
        unit.number("max_loras_per_batch", 8),
        unit.items("lora_paths"),
    )
    if loaded is None or batch is None:
        return
    least = max(int(batch), len(paths or []))
    if loaded < least:
        setting = unit["max_loaded_loras"]
        of = "lora-paths" if paths and len(paths) > batch else "max-loras-per-batch"
        yield Problem(
            setting, f"{loaded:.12g} adapters may be loaded, fewer than {least} of {of}", set_value(setting, least)
        )


@rule("SG042", "adapter-chunk", tools=SGLANG, harm="crash", causes=("lora-chunk",))
def adapter_chunk(unit: Unit, job: Job) -> Found:
    """Allow adapter-chunk.

    ## What it does
    Checks that `--max-lora-chunk-size` is a power of 2 between 16 and 128, and that `--lora-target-modules all` stands alone.

    ## Why is this bad?
    SGLang stops: "--max-lora-chunk-size must be a power of 2 between 16 and 128".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --max-lora-chunk-size 256
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --max-lora-chunk-size 128
    ```

    ## Versions
    0.5.4 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/lora_hook.py
    """
    chunk, modules = unit.number("max_lora_chunk_size"), unit.items("lora_target_modules")
    if chunk is not None and chunk not in (16, 32, 64, 128):
        setting = unit["max_lora_chunk_size"]
        better = 128 if chunk > 128 else max(n for n in (16, 32, 64) if n <= max(chunk, 16))
        yield Problem(
            setting, f"max-lora-chunk-size is {chunk:.12g}, and it is 16, 32, 64 or 128", set_value(setting, better)
        )
    if modules and "all" in modules and len(modules) > 1:
        yield Problem(unit["lora_target_modules"], "'all' stands beside other modules", advise("give 'all' alone"))


@rule("SG043", "adapters-with-radix-cache", tools=SGLANG, harm="crash", causes=("lora-radix",))
def adapters_with_radix_cache(unit: Unit, job: Job) -> Found:
    """Allow adapters-with-radix-cache.

    ## What it does
    Finds `--lora-paths` without `--disable-radix-cache` in versions that cannot have both.

    ## Why is this bad?
    SGLang stops: "compatibility of lora and radix attention is in progress".

    ## Example
    ```bash serve.sh sglang=0.4.6
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql
    ```

    ## Use instead
    ```bash serve.sh sglang=0.4.6
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --lora-paths sql=/adapters/sql --disable-radix-cache
    ```

    ## Versions
    Up to 0.4.10.

    ## References
    - sglang 0.4.10.post2, srt/server_args.py, check_lora_server_args
    """
    setting = unit.setting("lora_paths")
    if (
        setting is not None
        and unit.version is not None
        and unit.before("0.4.11")
        and unit.absent("disable_radix_cache")
    ):
        fix = (
            add_after(setting, "--disable-radix-cache")
            if setting.syntax == "shell"
            else advise("set disable-radix-cache")
        )
        yield Problem(setting, f"adapters and the radix cache do not go together in SGLang {unit.target}", fix)
