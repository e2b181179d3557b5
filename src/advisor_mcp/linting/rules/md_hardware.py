"""Number formats and kernels against what the GPU can do."""

from advisor_mcp.linting.concepts import HF_FAMILY, MEGATRON
from advisor_mcp.linting.edits import Fix, advise, both, remove, set_value
from advisor_mcp.linting.job import GpuFacts, Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.unit import Setting, Unit

TRAINED = (*HF_FAMILY, "axolotl", "deepspeed", "accelerate", "accelerate_launch", "torchtune", *MEGATRON)


def has(unit: Unit, name: str, *values: str) -> Setting | None:
    """A setting whose value is one of these, case aside."""
    found = (unit.text(name) or "").lower() if name in unit else ""
    return unit[name] if found in values else None


def capability(gpu: GpuFacts) -> str:
    """``V100 has compute capability 7.0``."""
    return f"{gpu.name} has compute capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability else gpu.name


def _bf16(unit: Unit) -> Setting | None:
    if unit.tool in ("accelerate", "accelerate_launch"):
        return has(unit, "mixed_precision", "bf16")
    if unit.tool in ("vllm", "sglang", "torchtune"):
        return has(unit, "dtype", "bfloat16", "bf16")
    return unit.on("bf16", "bf16.enabled", "model.bf16", "bf16_full_eval")


@rule("MD030", "bf16-without-hardware", tools=(*TRAINED, "vllm", "sglang"), harm="crash", causes=("bf16-hw",))
def bf16_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow bf16-without-hardware.

    ## What it does
    Reports bfloat16 on an NVIDIA GPU older than Ampere (compute capability below 8.0).

    ## Why is this bad?
    These GPUs have no bfloat16 units. Tools refuse ("You need Ampere+ GPU with cuda>=11.0") or emulate it, several times
    slower than fp16.

    ## Example
    ```yaml train.yaml gpu=v100
    output_dir: out
    bf16: true
    per_device_train_batch_size: 4
    ```

    ## Use instead
    ```yaml train.yaml gpu=v100
    output_dir: out
    fp16: true
    per_device_train_batch_size: 4
    ```

    ## Versions
    All. Where torch reports emulated bfloat16 as supported, newer transformers only run slowly.

    ## References
    - transformers 5.23.0, transformers/training_args.py
    - vllm 0.33.0, vllm/config/model.py
    - verl-project/verl#2594
    """
    gpu, setting = job.gpu, _bf16(unit)
    if gpu is None or setting is None or not gpu.below(8):
        return
    yield Problem(
        setting,
        f"{setting.shown} asks for bfloat16, and {capability(gpu)}; it begins with 8.0 (Ampere)",
        _half(unit, setting),
    )


def _half(unit: Unit, setting: Setting) -> Fix:
    if setting.name == "dtype":
        return set_value(setting, "fp32" if unit.tool == "torchtune" else "float16")
    if setting.name == "mixed_precision":
        return set_value(setting, "fp16")
    if setting.at is setting.key:
        return advise("use fp16 with loss scaling")
    return set_value(setting, False, why="and train in fp16 with loss scaling")


@rule("MD031", "fp8-without-hardware", tools=(*TRAINED, "torchtitan"), harm="crash", causes=("fp8-hw",))
def fp8_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow fp8-without-hardware.

    ## What it does
    Reports FP8 training on a GPU with a compute capability below 8.9.

    ## Why is this bad?
    FP8 tensor cores begin with Ada (8.9) and Hopper (9.0). Transformer Engine stops: "Device compute capability 8.9 or
    higher required for FP8 execution."

    ## Example
    ```bash launch.sh gpu=a100-sxm-80gb
    torchrun --nproc_per_node 8 pretrain_gpt.py --fp8-format hybrid --bf16 --num-layers 32 --hidden-size 4096 \\
      --num-attention-heads 32 --seq-length 4096 --micro-batch-size 1 --global-batch-size 128
    ```

    ## Use instead
    ```bash launch.sh gpu=a100-sxm-80gb
    torchrun --nproc_per_node 8 pretrain_gpt.py --bf16 --num-layers 32 --hidden-size 4096 \\
      --num-attention-heads 32 --seq-length 4096 --micro-batch-size 1 --global-batch-size 128
    ```

    ## Versions
    All. MXFP8 needs Blackwell (10.0).

    ## References
    - Transformer Engine documentation, "Using FP8 with Transformer Engine"
    - megatron-core 0.19.2, megatron/core/fp8_utils.py
    """
    gpu, setting = job.gpu, _fp8(unit)
    if gpu is None or setting is None:
        return
    if gpu.below(8, 9):
        yield Problem(
            setting,
            f"{setting.shown} asks for FP8, and {capability(gpu)}; it begins with 8.9 (Ada, Hopper)",
            remove(setting),
        )
    elif gpu.below(10) and has(unit, "fp8_recipe", "mxfp8"):
        recipe = unit["fp8_recipe"]
        yield Problem(
            recipe, f"{recipe.shown} needs Blackwell (10.0), and {capability(gpu)}", set_value(recipe, "delayed")
        )


def _fp8(unit: Unit) -> Setting | None:
    if unit.tool in ("accelerate", "accelerate_launch"):
        return has(unit, "mixed_precision", "fp8")
    if unit.tool == "torchtitan":
        return unit.setting("quantize.linear.float8", "float8.enable_fsdp_float8_all_gather")
    return (
        has(unit, "fp8_format", "hybrid", "e4m3")
        or has(unit, "model.fp8", "hybrid", "e4m3")
        or unit.on("fp8", "fp8.enabled")
    )


def _flash_attention_2(unit: Unit) -> Setting | None:
    return (
        has(unit, "attn_implementation", "flash_attention_2", "kernels-community/flash-attn2")
        or has(unit, "flash_attn", "fa2")
        or unit.on("flash_attention", "use_flash_attn", "use_flash_attention_2")
        or has(unit, "attention_backend", "flash_attn", "flashattention", "fa3" if unit.tool == "sglang" else "flash")
    )


@rule(
    "MD032",
    "flash-attention-without-hardware",
    tools=(*HF_FAMILY, "axolotl", "megatron-lm", "vllm", "sglang"),
    harm="crash",
    causes=("fa2-hw",),
)
def flash_attention_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow flash-attention-without-hardware.

    ## What it does
    Reports FlashAttention 2 on an NVIDIA GPU older than Ampere, and FlashAttention 3 on one older than Hopper.

    ## Why is this bad?
    The kernels do not exist there: "FlashAttention only supports Ampere GPUs or newer."

    ## Example
    ```yaml train.yaml gpu=t4
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    flash_attention: true
    ```

    ## Use instead
    ```yaml train.yaml gpu=t4
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    sdp_attention: true
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, transformers/modeling_utils.py
    - flash-attention README, "NVIDIA CUDA Support"
    """
    gpu = job.gpu
    if gpu is None or gpu.capability is None:
        return
    third = has(unit, "attn_implementation", "flash_attention_3", "kernels-community/flash-attn3")
    if third is None and unit.tool == "sglang":
        third = has(unit, "attention_backend", "fa3")
    second = _flash_attention_2(unit) if third is None else None
    setting, needed = (third, (9, 0) if unit.tool != "sglang" else (8, 0)) if third else (second, (8, 0))
    if setting is not None and gpu.capability < needed:
        message = f"{setting.shown} needs compute capability {needed[0]}.{needed[1]}, and {capability(gpu)}"
        fix = set_value(setting, "sdpa") if setting.name in ("attn_implementation", "flash_attn") else remove(setting)
        yield Problem(setting, message, fix)


@rule("MD033", "tf32-without-hardware", tools=("axolotl",), harm="crash", causes=("tf32-hw",))
def tf32_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow tf32-without-hardware.

    ## What it does
    Reports `tf32: true` on an NVIDIA GPU older than Ampere.

    ## Why is this bad?
    TensorFloat-32 begins with Ampere; transformers stops: "--tf32 requires Ampere or a newer GPU arch".

    ## Example
    ```yaml train.yaml gpu=v100
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    tf32: true
    ```

    ## Use instead
    ```yaml train.yaml gpu=v100
    base_model: my/model
    datasets: [{path: my/data, type: alpaca}]
    ```

    ## Versions
    All.

    ## References
    - transformers 5.23.0, transformers/training_args.py
    """
    gpu, setting = job.gpu, unit.on("tf32")
    if gpu is not None and setting is not None and gpu.below(8):
        yield Problem(setting, f"{setting.shown} needs compute capability 8.0, and {capability(gpu)}", remove(setting))


# the lowest capability of any version between 0.10 and 0.33 (get_min_capability of each method)
MINIMUM = {
    "awq": (7, 5), "awq_marlin": (7, 5), "gptq": (6, 0), "fp8": (7, 5), "fbgemm_fp8": (8, 0), "modelopt": (8, 0), "modelopt_fp4": (7, 5),
    "mxfp4": (8, 0), "experts_int8": (8, 0), "moe_wna16": (7, 0), "torchao": (7, 5),
}  # fmt: skip


@rule("MD034", "quantisation-without-hardware", tools=("vllm",), harm="crash", causes=("quant-hw",))
def quantisation_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow quantisation-without-hardware.

    ## What it does
    Compares the quantisation method with the compute capability that its kernels need.

    ## Why is this bad?
    vLLM stops: "The quantization method awq is not supported for the current GPU. Minimum capability: 75."

    ## Example
    ```bash serve.sh gpu=v100
    vllm serve my/model-awq --quantization awq --dtype half
    ```

    ## Use instead
    ```bash serve.sh gpu=v100
    vllm serve my/model-gptq --quantization gptq --dtype half
    ```

    ## Versions
    The lowest need of vLLM 0.10 to 0.33 is taken.

    ## References
    - vllm 0.33.0, vllm/model_executor/layers/quantization, get_min_capability
    """
    gpu, setting = job.gpu, unit.setting("quantization")
    if gpu is None or gpu.capability is None or setting is None:
        return
    needed = MINIMUM.get((unit.text("quantization") or "").lower())
    if needed is not None and gpu.capability < needed:
        message = f"{setting.shown} needs compute capability {needed[0]}.{needed[1]}, and {capability(gpu)}"
        yield Problem(setting, message, advise("serve another quantisation of the model, or use a newer GPU"))


@rule("MD035", "fp8-cache-without-hardware", tools=("vllm",), harm="slow", severity="warning", causes=("kv-dtype-hw",))
def fp8_cache_without_hardware(unit: Unit, job: Job) -> Found:
    """Allow fp8-cache-without-hardware.

    ## What it does
    Reports an FP8 KV cache on an NVIDIA GPU with a compute capability below 8.9.

    ## Why is this bad?
    Without FP8 units every read of the cache is converted, attention backends refuse it ("native FP8 is not supported")
    or fall back to slower ones.

    ## Example
    ```bash serve.sh gpu=a100-sxm-80gb
    vllm serve my/model --kv-cache-dtype fp8
    ```

    ## Use instead
    ```bash serve.sh gpu=h100-sxm
    vllm serve my/model --kv-cache-dtype fp8
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, vllm/v1/attention/backends/triton_attn.py
    """
    gpu, setting = job.gpu, unit.setting("kv_cache_dtype")
    if gpu is None or setting is None or not gpu.below(8, 9):
        return
    if (unit.text("kv_cache_dtype") or "").startswith("fp8"):
        yield Problem(
            setting,
            f"{setting.shown} has no hardware behind it: {capability(gpu)}, FP8 begins with 8.9",
            both(remove(setting)),
        )
