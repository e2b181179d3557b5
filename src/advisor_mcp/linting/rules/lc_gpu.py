"""llama.cpp on GPUs: how a model is split, and what stays on the host."""

from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules._lc import LAYERS, MAIN, SHARES, SPLIT, attention_off, word
from advisor_mcp.linting.unit import Unit

LLAMA = ("llama.cpp",)


@rule("LC020", "tensor-split-without-flash-attention", tools=LLAMA, harm="crash", causes=("split-tensor-fa",))
def tensor_split_without_flash_attention(unit: Unit, job: Job) -> Found:
    """Allow tensor-split-without-flash-attention.

    ## What it does
    Finds `--split-mode tensor` with flash attention off.

    ## Why is this bad?
    llama.cpp stops: "SPLIT_MODE_TENSOR requires flash_attn to be enabled".

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --split-mode tensor --flash-attn off
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --split-mode tensor --flash-attn on
    ```

    ## Versions
    All builds that have the mode.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), src/llama-context.cpp
    - llama.cpp documentation, docs/multi-gpu.md
    """
    mode, off = unit.setting(*SPLIT), attention_off(unit)
    if mode is not None and off is not None and word(unit, SPLIT) == "tensor":
        yield Problem(off, "tensors are split over GPUs, which needs flash attention", set_value(off, "on"), (mode,))


@rule("LC021", "row-split", tools=LLAMA, harm="deprecated", severity="info", causes=("split-row",))
def row_split(unit: Unit, job: Job) -> Found:
    """Allow row-split.

    ## What it does
    Finds `--split-mode row`.

    ## Why is this bad?
    It is deprecated and comparatively slow; `tensor` takes its place where the model allows it, `layer` always works.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --split-mode row
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --split-mode layer
    ```

    ## Versions
    Builds of 2026.

    ## References
    - llama.cpp documentation, docs/multi-gpu.md
    """
    mode = unit.setting(*SPLIT)
    if mode is not None and word(unit, SPLIT) == "row":
        yield Problem(mode, "splitting by rows is deprecated", set_value(mode, "layer"))


@rule("LC022", "gpu-choice-unused", tools=LLAMA, harm="ignored", severity="warning", causes=("main-gpu-unused",))
def gpu_choice_unused(unit: Unit, job: Job) -> Found:
    """Allow gpu-choice-unused.

    ## What it does
    Finds `--tensor-split` with `--split-mode none`, and a `--main-gpu` other than 0 where the model is split by layers or
    tensors.

    ## Why is this bad?
    One GPU has no shares, and only `none` (and the deprecated `row`) has a main GPU: the model lands on other GPUs than was
    meant.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --main-gpu 1
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --main-gpu 1 --split-mode none
    ```

    ## Versions
    All.

    ## References
    - llama.cpp documentation, docs/multi-gpu.md
    """
    mode, shares, main = word(unit, SPLIT, "layer"), unit.setting(*SHARES), unit.setting(*MAIN)
    if mode == "none" and shares is not None:
        yield Problem(shares, "--split-mode none takes one GPU, which has no shares", remove(shares))
    elif mode in ("layer", "tensor") and main is not None and str(main.value) not in ("0", "-1") and main.known:
        given = unit.setting(*SPLIT)
        one_gpu = {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"} & set(unit.env) or unit.setting("device", "dev")
        if not one_gpu and not unit.open:
            fix = (
                set_value(given, "none")
                if given is not None
                else advise("add --split-mode none, or choose GPUs with --device")
            )
            yield Problem(main, f"{main.written} counts with --split-mode none only, and it is {mode}", fix)


@rule("LC023", "cache-on-the-host", tools=LLAMA, harm="slow", severity="info", causes=("kv-on-host",))
def cache_on_the_host(unit: Unit, job: Job) -> Found:
    """Allow cache-on-the-host.

    ## What it does
    Finds `--no-kv-offload` with layers on the GPU.

    ## Why is this bad?
    The cache stays in host memory and attention runs on the CPU: long contexts decode many times slower. A quantised cache
    saves memory too and stays on the GPU.

    ## Example
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --no-kv-offload
    ```

    ## Use instead
    ```bash serve.sh
    llama-server -m model.gguf -ngl 99 --cache-type-k q8_0 --cache-type-v q8_0
    ```

    ## Versions
    All.

    ## References
    - llama.cpp (in llama-cpp-python 0.3.36), common/arg.cpp
    """
    setting, layers = unit.setting("kv_offload", "no_kv_offload", "nkvo"), word(unit, LAYERS)
    off = setting is not None and setting.value is (setting.name != "kv_offload")
    if setting is not None and off and layers and layers != "0":
        yield Problem(setting, "the cache stays in host memory, while layers are on the GPU", remove(setting))
