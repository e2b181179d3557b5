"""llama.cpp's context: slots that share it, its number formats, batches, embeddings."""

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._lc import (
    BATCH,
    CONTEXT,
    EMBEDDING,
    FLASH,
    KEYS,
    LAYERS,
    QUANTISED,
    SLOTS,
    STEP,
    UNIFIED,
    VALUES,
    attention_off,
    number,
    word,
)
from advisor_mcp.linting.unit import Setting, Unit

LLAMA = ("llama.cpp",)
FEW_TOKENS = 8192  # a slot with fewer than this is filled by one longer chat
# The pairs of formats that the CUDA kernels of a usual build have; others need GGML_CUDA_FA_ALL_QUANTS.
FAST_PAIRS = ("f16", "bf16", "q8_0", "q4_0")


@rule(
    "LC001",
    "context-divided-by-slots",
    tools=LLAMA,
    harm="wrong_result",
    severity="warning",
    causes=("ctx-div-parallel",),
)
def context_divided_by_slots(unit: Unit, job: Job) -> Found:
    """Allow context-divided-by-slots.

    ## What it does
    Finds `--parallel` above 1 without `--kv-unified`: `--ctx-size` is the sum over the slots. A warning where a slot is left
    with fewer than 8,192 tokens or the context is the model's own (`--ctx-size 0`), otherwise an info.

    ## Why is this bad?
    No error: each of 4 slots of `--ctx-size 4096` holds 1,024 tokens. Longer requests are cut or fail with "Context size has
    been exceeded".

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf --ctx-size 4096 --parallel 4
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf --ctx-size 16384 --parallel 4 --kv-unified
    ```

    ## Versions
    All. Where `--parallel` is not set, recent builds take 4 slots that share the context.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), src/llama-context.cpp
    - llama.cpp (in llama-cpp-python 0.3.36), tools/server/server.cpp
    """
    shared = unit.setting(*UNIFIED)
    if unit.scope == "cli" or "LLAMA_ARG_KV_UNIFIED" in unit.env or (shared is not None and shared.value is not False):
        return
    slots, context = number(unit, SLOTS), number(unit, CONTEXT)
    place, total = unit.setting(*SLOTS), unit.setting(*CONTEXT)
    if place is None or slots is None or slots < 2 or (total is not None and context is None):
        return
    if total is None and "LLAMA_ARG_CTX_SIZE" in unit.env:
        return
    if context:
        each = int(context // slots)
        severity: Severity = "warning" if each < FEW_TOKENS else "info"
        message = f"{context:.12g} tokens of context are divided by {slots:.12g} slots: {each} each"
    else:
        severity, message = "warning", f"the model's context is divided by {slots:.12g} slots"
    fix = add_after(place, "--kv-unified") if place.syntax == "shell" and shared is None else advise("set kv-unified")
    if not unit.open:
        yield Problem(total or place, message, fix, (place,) if total else (), severity)


@rule("LC002", "quantised-values-without-flash-attention", tools=LLAMA, harm="crash", causes=("kv-quant-fa",))
def quantised_values_without_flash_attention(unit: Unit, job: Job) -> Found:
    """Allow quantised-values-without-flash-attention.

    ## What it does
    Finds a quantised `--cache-type-v` with flash attention off.

    ## Why is this bad?
    llama.cpp stops: "quantized V cache was requested, but this requires Flash Attention".

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf --cache-type-k q8_0 --cache-type-v q8_0 --flash-attn off
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf --cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on
    ```

    ## Versions
    All. Builds before b6325 have flash attention off where `-fa` is not given.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), src/llama-context.cpp
    """
    off, values = attention_off(unit), unit.setting(*VALUES)
    if off is not None and values is not None and word(unit, VALUES) in QUANTISED:
        yield Problem(
            off, f"values in {values.value} need flash attention, which is off", set_value(off, "on"), (values,)
        )


@rule(
    "LC003",
    "cache-formats-without-fast-kernel",
    tools=LLAMA,
    harm="slow",
    severity="warning",
    causes=("kv-quant-mixed",),
)
def cache_formats_without_fast_kernel(unit: Unit, job: Job) -> Found:
    """Allow cache-formats-without-fast-kernel.

    ## What it does
    Finds a model on the GPU whose keys and values are cached in different formats, or in others than f16, bf16, q8_0 and q4_0.

    ## Why is this bad?
    The usual CUDA build has attention kernels for equal pairs of these formats only. For others attention runs on the CPU:
    many times slower, without an error.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --cache-type-k q8_0 --cache-type-v q4_0
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --cache-type-k q8_0 --cache-type-v q8_0
    ```

    ## Versions
    All builds without `GGML_CUDA_FA_ALL_QUANTS`.

    ## References
    - ggml-org/llama.cpp#28455
    - ggml-org/llama.cpp#24485
    """
    keys, values = word(unit, KEYS, "f16"), word(unit, VALUES, "f16")
    place = unit.setting(*VALUES, *KEYS)
    if place is None or keys is None or values is None or attention_off(unit) is not None or not _on_gpu(unit):
        return
    if keys != values:
        other = keys if place.name in VALUES else values
        fix = set_value(place, other) if other in FAST_PAIRS and len(_set(unit)) == 2 else _equal(place, keys, values)
        yield Problem(place, f"keys are cached in {keys} and values in {values}, which have no common kernel", fix)
    elif keys not in FAST_PAIRS:
        yield Problem(place, f"there is no kernel for a cache in {keys}", advise("use q8_0 or q4_0 for both"))


@rule("LC004", "flash-attention-without-value", tools=LLAMA, harm="crash", severity="warning", causes=("fa-value",))
def flash_attention_without_value(unit: Unit, job: Job) -> Found:
    """Allow flash-attention-without-value.

    ## What it does
    Finds `-fa` or `--flash-attn` without `on`, `off` or `auto`.

    ## Why is this bad?
    It is no switch any more. llama.cpp takes the next word for its value and stops: "unknown value for --flash-attn", or
    "expected value for argument".

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -fa -ngl 99
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -fa on -ngl 99
    ```

    ## Versions
    Builds from b6325 (August 2025) on; a warning, because the build is not named.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), common/arg.cpp
    - defilantech/LLMKube#147
    - yazon/flexllama#15
    """
    setting = unit.setting(*FLASH)
    if setting is not None and setting.syntax == "shell" and setting.value is True:
        yield Problem(setting, f"{setting.written} takes on, off or auto", add_after(setting, "on"))


@rule("LC005", "embeddings-longer-than-a-step", tools=LLAMA, harm="crash", severity="warning", causes=("embed-ubatch",))
def embeddings_longer_than_a_step(unit: Unit, job: Job) -> Found:
    """Allow embeddings-longer-than-a-step.

    ## What it does
    Finds a server for embeddings or reranking whose `--ubatch-size` (512 where it is not set) is smaller than the context or
    batch it was given.

    ## Why is this bad?
    A text has to fit into one step. Longer ones are refused: "input is too large to process. increase the physical batch
    size".

    ## Example
    ```bash serve.sh
    llama-server -m bge-m3.gguf --embeddings --ctx-size 8192 --batch-size 8192
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m bge-m3.gguf --embeddings --ctx-size 8192 --batch-size 8192 --ubatch-size 8192
    ```

    ## Versions
    All.

    ## References
    - ggml-org/llama.cpp#12836
    - ggml-org/llama.cpp#12295
    - ggml-org/llama.cpp#7389
    """
    mode, step = unit.setting(*EMBEDDING), number(unit, STEP, 512)
    if mode is None or mode.value is False or step is None or "LLAMA_ARG_UBATCH" in unit.env:
        return
    slots = number(unit, SLOTS, 1) or 1
    wanted = [
        (s, v)
        for s, v in ((unit.setting(*BATCH), number(unit, BATCH)), (unit.setting(*CONTEXT), number(unit, CONTEXT)))
        if s and v
    ]
    longest = max((v / (slots if s.name in CONTEXT else 1) for s, v in wanted), default=0)
    if longest > step:
        place = unit.setting(*STEP)
        fix = set_value(place, int(longest)) if place is not None else _step(mode, int(longest))
        also = tuple(s for s, _ in wanted)
        yield Problem(
            place or mode,
            f"texts of more than {step:.12g} tokens are refused, and the server is made for {longest:.12g}",
            fix,
            also,
        )


@rule("LC006", "step-longer-than-batch", tools=LLAMA, harm="ignored", severity="warning", causes=("ubatch-cut",))
def step_longer_than_batch(unit: Unit, job: Job) -> Found:
    """Allow step-longer-than-batch.

    ## What it does
    Finds `--ubatch-size` above `--batch-size` (2048 where it is not set).

    ## Why is this bad?
    The step is cut to the batch, so the larger value has no effect.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf --ubatch-size 4096
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf --ubatch-size 4096 --batch-size 4096
    ```

    ## Versions
    All.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), src/llama-context.cpp
    """
    step, batch = number(unit, STEP), number(unit, BATCH, 2048)
    setting, given = unit.setting(*STEP), unit.setting(*BATCH)
    if setting is None or step is None or batch is None or step <= batch or unit.open or "LLAMA_ARG_BATCH" in unit.env:
        return
    fix = (
        set_value(given, int(step))
        if given is not None
        else add_after(setting, "--batch-size", int(step))
        if setting.syntax == "shell"
        else advise(f"set batch-size to {step:.12g}")
    )
    yield Problem(
        setting, f"a step of {step:.12g} tokens is cut to the batch of {batch:.12g}", fix, (given,) if given else ()
    )


@rule("LC007", "no-slots", tools=LLAMA, harm="crash", causes=("no-slots",))
def no_slots(unit: Unit, job: Job) -> Found:
    """Allow no-slots.

    ## What it does
    Finds `--parallel 0`.

    ## Why is this bad?
    llama-server stops: "error: invalid value for n_parallel". -1 means that it chooses.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf --parallel 0
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf --parallel 1
    ```

    ## Versions
    Builds since the end of 2025.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), common/arg.cpp
    """
    setting = unit.setting(*SLOTS)
    if setting is not None and number(unit, SLOTS) == 0:
        yield Problem(setting, "a server needs a slot", set_value(setting, 1))


@rule("LC008", "not-with-images", tools=LLAMA, harm="ignored", severity="warning", causes=("mmproj-conflict",))
def not_with_images(unit: Unit, job: Job) -> Found:
    """Allow not-with-images.

    ## What it does
    Finds `--context-shift` or `--cache-reuse` with `--mmproj`.

    ## Why is this bad?
    "ctx_shift is not supported by multimodal, it will be disabled": generation ends when the context is full, and prompts are
    read anew.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf --mmproj mmproj.gguf --context-shift
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf --mmproj mmproj.gguf
    ```

    ## Versions
    All.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), tools/server/server-context.cpp
    """
    images = unit.setting("mmproj", "mm", "mmproj_url", "mmu")
    for name in ("context_shift", "cache_reuse"):
        setting = unit.setting(name)
        if images is not None and setting is not None and setting.value is not False and str(setting.value) != "0":
            yield Problem(
                setting, f"{setting.written} is turned off, because {images.written} is set", remove(setting), (images,)
            )


def _on_gpu(unit: Unit) -> bool:
    """Whether layers are put on a GPU, as far as the command says so."""
    layers = word(unit, LAYERS)
    return bool(layers) and layers != "0"


def _set(unit: Unit) -> list[Setting]:
    return [s for s in (unit.setting(*KEYS), unit.setting(*VALUES)) if s is not None]


def _equal(place: Setting, keys: str, values: str) -> Fix:
    if place.syntax != "shell" or "q8_0" not in (keys, values):
        return advise("give both the same format")
    return add_after(place, "--cache-type-k" if place.name in VALUES else "--cache-type-v", "q8_0")


def _step(mode: Setting, tokens: int) -> Fix:
    return (
        add_after(mode, "--ubatch-size", tokens) if mode.syntax == "shell" else advise(f"set ubatch-size to {tokens}")
    )
