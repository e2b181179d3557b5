"""vLLM's quantisation methods against number formats, checkpoints and versions."""

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._vl import is_on, model_name, named_before
from advisor_mcp.linting.unit import Setting, Unit

BFLOAT16, FLOAT16 = ("bfloat16", "bf16"), ("half", "float16", "fp16")
# The first version whose kernels take bfloat16 too; None: it was removed before that.
FP16_ONLY: dict[str, str | None] = {
    "awq": "0.24", "gptq": "0.22", "aqlm": None, "marlin": None, "qqq": None, "gptq_marlin_24": None, "squeezellm": None,
}  # fmt: skip
BF16_ONLY = ("fp_quant", "mxfp4", "gpt_oss_mxfp4", "modelopt_mxfp8")
# The first version that was read without a method, and what to do.
REMOVED = {
    "gguf": ("0.24", "use llama.cpp for GGUF files, or a checkpoint in safetensors"),
    "bitsandbytes": ("0.28", "use a checkpoint that is quantised, or --quantization fp8_per_tensor"),
    "aqlm": ("0.10.2", "use another quantisation"),
    "marlin": ("0.10.2", "use gptq_marlin"),
    "qqq": ("0.10.2", "use another quantisation"),
    "neuron_quant": ("0.10.2", "use the plugin for Neuron"),
    "tpu_int8": ("0.14", "use the plugin for TPUs"),
    "deepspeedfp": ("0.17", "use fp8"),
    "gptq_marlin_24": ("0.17", "use compressed-tensors"),
    "hqq": ("0.17", "use another quantisation"),
    "ipex": ("0.17", "leave it out"),
    "bitblas": ("0.17", "use gptq_marlin"),
    "gptq_bitblas": ("0.17", "use gptq_marlin"),
    "rtn": ("0.17", "use fp8_per_tensor or int8_per_channel_weight_only"),
    "auto-round": ("0.17", "use inc"),
    "ptpc_fp8": ("0.20", "use fp8_per_channel"),
    "petit_nvfp4": ("0.20", "use modelopt_fp4"),
}
ALIASES = {
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
    "moe_wna16": "",
    "humming": "",
    "inc": "",
}
IN_NAMES = {"awq": "awq", "gptq": "gptq", "gguf": "gguf", "bnb-4bit": "bitsandbytes", "bnb-8bit": "bitsandbytes"}
NEEDS_CHECKPOINT = ("awq", "gptq", "compressed-tensors", "modelopt_fp4", "quark", "aqlm", "marlin", "gptq_marlin_24")
NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")


@rule("VL040", "number-format-not-for-method", tools=("vllm", "sglang"), harm="crash", causes=("quant-dtype",))
def number_format_not_for_method(unit: Unit, job: Job) -> Found:
    """Allow number-format-not-for-method.

    ## What it does
    Compares `--dtype` with the number formats that the kernels of `--quantization` compute in.

    ## Why is this bad?
    vLLM stops: "torch.bfloat16 is not supported for quantization method awq. Supported dtypes: [torch.float16]". Without
    `--quantization` the Marlin kernels are chosen where the checkpoint allows it; they take both formats and are faster.

    ## Example
    ```bash serve.sh vllm=0.10.2
    vllm serve TheBloke/Mistral-7B-v0.1-AWQ --quantization awq --dtype bfloat16
    ```

    ## Use instead
    ```bash serve.sh vllm=0.10.2
    vllm serve TheBloke/Mistral-7B-v0.1-AWQ --dtype bfloat16
    ```

    ## Versions
    vLLM's awq before 0.24 and gptq before 0.22; a warning where no version was named. fp_quant and mxfp4 need bfloat16. SGLang's
    awq and gptq in all versions that were read.

    ## References
    - vllm 0.12.0, model_executor/layers/quantization/awq.py and gptq.py, get_supported_act_dtypes
    - vllm 0.24.0, model_executor/layers/quantization/auto_awq.py
    - sglang 0.5.23, srt/layers/quantization/awq/awq.py and gptq/gptq.py
    - vllm-project/vllm#1823
    - hiyouga/LlamaFactory#3674
    - vllm-project/vllm#13462
    """
    method, dtype = unit.text("quantization"), unit.text("dtype")
    if method is None or dtype is None:
        return
    setting, other = unit["dtype"], unit["quantization"]
    if dtype in BFLOAT16 and method in (FP16_ONLY if unit.tool == "vllm" else ("awq", "gptq")):
        end = FP16_ONLY[method] if unit.tool == "vllm" else None
        if end is None or unit.version is None or unit.before(end):
            said = f"the kernels of {method} compute in float16 only" + (f" (before vLLM {end})" if end else "")
            severity: Severity = "warning" if end and unit.version is None else "error"
            yield Problem(setting, f"dtype is {dtype}, and {said}", set_value(setting, "half"), (other,), severity)
    elif dtype in FLOAT16 and method in BF16_ONLY and unit.tool == "vllm":
        yield Problem(
            setting,
            f"dtype is {dtype}, and the kernels of {method} compute in bfloat16 only",
            set_value(setting, "bfloat16"),
            (other,),
        )


@rule("VL041", "quantization-method-removed", tools=("vllm",), harm="crash", causes=("quant-removed",))
def quantization_method_removed(unit: Unit, job: Job) -> Found:
    """Allow quantization-method-removed.

    ## What it does
    Finds `--quantization` methods, and GGUF files, that the version in use no longer reads.

    ## Why is this bad?
    vLLM stops: "Unknown quantization method", or cannot read the file.

    ## Example
    ```bash serve.sh
    vllm serve unsloth/Llama-3.2-1B-Instruct --quantization bitsandbytes
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve unsloth/Llama-3.2-1B-Instruct --quantization fp8_per_tensor
    ```

    ## Versions
    gguf is gone in 0.24, bitsandbytes in 0.28, aqlm, marlin and qqq in 0.10.2, deepspeedfp, hqq, ipex, bitblas,
    gptq_marlin_24, rtn and auto-round in 0.17, ptpc_fp8 and petit_nvfp4 in 0.20. Plug-ins may bring some back.

    ## References
    - vllm 0.33.0, model_executor/layers/quantization/__init__.py, QuantizationMethods
    - vllm 0.22.1 and 0.24.0, the same
    """
    setting = unit.setting("quantization") or _gguf_file(unit)
    method = "gguf" if setting is not None and setting.name != "quantization" else unit.text("quantization")
    if setting is None or method not in REMOVED:
        return
    end, instead = REMOVED[method]
    if unit.since(end):
        yield Problem(setting, f"vLLM {unit.target or 'of today'} has no quantisation method {method}", advise(instead))


@rule("VL042", "deprecated-quantization", tools=("vllm",), harm="crash", causes=("quant-deprecated",))
def deprecated_quantization(unit: Unit, job: Job) -> Found:
    """Allow deprecated-quantization.

    ## What it does
    Finds `--quantization fbgemm_fp8` and `fp_quant` without `--allow-deprecated-quantization`.

    ## Why is this bad?
    vLLM stops: "The quantization method is deprecated ... To bypass, set --allow-deprecated-quantization".

    ## Example
    ```bash serve.sh
    vllm serve some/model --quantization fbgemm_fp8
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve some/model --quantization fbgemm_fp8 --allow-deprecated-quantization
    ```

    ## Versions
    0.20 and later.

    ## References
    - vllm 0.33.0, config/model.py, _verify_quantization
    """
    if unit.text("quantization") not in ("fbgemm_fp8", "fp_quant") or not unit.since("0.20"):
        return
    if unit.absent("allow_deprecated_quantization"):
        setting = unit["quantization"]
        fix = (
            add_after(setting, "--allow-deprecated-quantization")
            if setting.syntax == "shell"
            else advise("allow-deprecated-quantization: true")
        )
        yield Problem(setting, f"{setting.shown} is deprecated and stops the server unless it is allowed", fix)


@rule("VL043", "method-of-another-checkpoint", tools=("vllm",), harm="crash", causes=("quant-mismatch",))
def method_of_another_checkpoint(unit: Unit, job: Job) -> Found:
    """Allow method-of-another-checkpoint.

    ## What it does
    Compares `--quantization` with the method that the checkpoint was quantised by: from its configuration, or from a name
    that ends in AWQ or GPTQ. Also finds methods that need a quantised checkpoint with one that is none.

    ## Why is this bad?
    vLLM stops: "Quantization method specified in the model config (gptq) does not match the quantization method specified in
    the `quantization` argument (awq)", or "Cannot find the config file for awq". The checkpoint says it itself.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4 --quantization awq
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/model.py, _verify_quantization
    - vllm 0.33.0, model_executor/model_loader/weight_utils.py, get_quant_config
    """
    method = unit.text("quantization")
    if method is None:
        return
    setting, wanted = unit["quantization"], ALIASES.get(method, method)
    model = job.model(unit)
    stored = str(model.quantization.get("quant_method", "")).replace("_", "-") if model is not None else ""
    if not stored:
        stored = next((kind for mark, kind in IN_NAMES.items() if mark in model_name(unit)), "")
    if stored and wanted in IN_NAMES.values() and stored in IN_NAMES.values() and wanted != stored:
        message = f"quantization is {method}, but the checkpoint is quantised with {stored}"
        yield Problem(setting, message, remove(setting, why="the checkpoint says it"))
    elif (
        not stored and model is not None and model.model_type and wanted in NEEDS_CHECKPOINT and not model.quantization
    ):
        message = (
            f"quantization is {method}, which needs a checkpoint quantised that way, and {model.name} is not quantised"
        )
        yield Problem(setting, message, remove(setting))


@rule("VL044", "slow-kernels-forced", tools=("vllm",), harm="slow", severity="warning", causes=("quant-slow-kernel",))
def slow_kernels_forced(unit: Unit, job: Job) -> Found:
    """Allow slow-kernels-forced.

    ## What it does
    Finds `--quantization awq` and `gptq` in versions that have the Marlin kernels beside them.

    ## Why is this bad?
    The option forces the old kernels, which are several times slower with a batch: "Detected that the model can run with
    awq_marlin, however you specified quantization=awq explicitly, so forcing awq".

    ## Example
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen2.5-7B-Instruct-AWQ --quantization awq
    ```

    ## Use instead
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen2.5-7B-Instruct-AWQ
    ```

    ## Versions
    awq before 0.24, gptq before 0.22; reported where a version was named. GPUs older than Ampere have the old kernels only.

    ## References
    - vllm 0.20.2, model_executor/layers/quantization/awq_marlin.py, override_quantization_method
    """
    method, dtype = unit.text("quantization"), unit.text("dtype", "auto")
    end = FP16_ONLY.get(method or "") if method in ("awq", "gptq") else None
    old = job.gpu is not None and job.gpu.below(8, 0)
    if end and named_before(unit, end) and dtype not in BFLOAT16 and not old:
        setting = unit["quantization"]
        yield Problem(
            setting, f"{setting.shown} forces the old kernels where the Marlin ones would be chosen", remove(setting)
        )


@rule("VL045", "loader-and-method-differ", tools=("vllm",), harm="crash", causes=("bnb-load-format",))
def loader_and_method_differ(unit: Unit, job: Job) -> Found:
    """Allow loader-and-method-differ.

    ## What it does
    In old versions, checks that `--quantization bitsandbytes` and `--load-format bitsandbytes` stand together.

    ## Why is this bad?
    vLLM stops: "BitsAndBytes quantization and QLoRA adapter only support 'bitsandbytes' load format, but got auto".

    ## Example
    ```bash serve.sh vllm=0.7.3
    vllm serve unsloth/Llama-3.2-1B-Instruct-bnb-4bit --quantization bitsandbytes
    ```

    ## Use instead
    ```bash serve.sh vllm=0.7.3
    vllm serve unsloth/Llama-3.2-1B-Instruct-bnb-4bit --quantization bitsandbytes --load-format bitsandbytes
    ```

    ## Versions
    Before 0.8.

    ## References
    - vllm 0.7.3, engine/arg_utils.py, create_engine_config
    """
    if not named_before(unit, "0.8"):
        return
    method, loader = unit.text("quantization", ""), unit.text("load_format", "auto")
    if method is None or loader is None or (method == "bitsandbytes") == (loader == "bitsandbytes"):
        return
    place = unit.setting("quantization" if method == "bitsandbytes" else "load_format")
    if place is not None:
        yield Problem(place, f"quantization is {method or 'not set'}, but load-format is {loader}", _join(place))


@rule("VL046", "e5m2-cache-with-fp8-weights", tools=("vllm",), harm="crash", causes=("kv-dtype-checkpoint",))
def e5m2_cache_with_fp8_weights(unit: Unit, job: Job) -> Found:
    """Allow e5m2-cache-with-fp8-weights.

    ## What it does
    Finds `--kv-cache-dtype fp8_e5m2` with a checkpoint in FP8.

    ## Why is this bad?
    vLLM stops: "fp8_e5m2 kv-cache is not supported with fp8 checkpoints."

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B-FP8 --kv-cache-dtype fp8_e5m2
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B-FP8 --kv-cache-dtype fp8_e4m3
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, model_executor/layers/attention/attention.py
    - vllm 0.6.6.post1, attention/layer.py
    """
    if unit.text("kv_cache_dtype") != "fp8_e5m2":
        return
    model = job.model(unit)
    stored = str(model.quantization.get("quant_method", "")) if model is not None else ""
    if stored == "fp8" or unit.text("quantization") == "fp8" or (not stored and model_name(unit).endswith("-fp8")):
        setting = unit["kv_cache_dtype"]
        yield Problem(
            setting, "the cache is fp8_e5m2, which does not go with weights in FP8", set_value(setting, "fp8_e4m3")
        )


@rule(
    "VL047",
    "e5m2-cache-corrupts-output",
    tools=("vllm",),
    harm="wrong_result",
    severity="warning",
    causes=("kv-dtype-e5m2",),
)
def e5m2_cache_corrupts_output(unit: Unit, job: Job) -> Found:
    """Allow e5m2-cache-corrupts-output.

    ## What it does
    Finds `--kv-cache-dtype fp8_e5m2` with Qwen2-VL and Qwen2.5-VL where no scales are calculated.

    ## Why is this bad?
    Answers are silently corrupted: two bits of mantissa without scales do not hold the values of these models.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-VL-7B-Instruct --kv-cache-dtype fp8_e5m2
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen2.5-VL-7B-Instruct --kv-cache-dtype fp8_e4m3
    ```

    ## Versions
    All.

    ## References
    - vllm-project/vllm#41343
    """
    name = model_name(unit)
    if (
        unit.text("kv_cache_dtype") == "fp8_e5m2"
        and ("qwen2-vl" in name or "qwen2.5-vl" in name)
        and not is_on(unit, "calculate_kv_scales")
    ):
        setting = unit["kv_cache_dtype"]
        yield Problem(
            setting,
            "a cache of fp8_e5m2 without scales corrupts the answers of this model",
            set_value(setting, "fp8_e4m3"),
        )


@rule("VL048", "float16-with-unstable-model", tools=("vllm",), harm="crash", causes=("dtype-model",))
def float16_with_unstable_model(unit: Unit, job: Job) -> Found:
    """Allow float16-with-unstable-model.

    ## What it does
    Finds `--dtype half` with Gemma 2, Gemma 3 and GLM-4.

    ## Why is this bad?
    Their values overflow float16. vLLM stops: "The model type 'gemma3' does not support float16. Reason: Numerical
    instability"; versions before 0.9 answered with garbage.

    ## Example
    ```bash serve.sh
    vllm serve google/gemma-3-27b-it --dtype half
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve google/gemma-3-27b-it --dtype bfloat16
    ```

    ## Versions
    0.9 and later stop; earlier ones go on.

    ## References
    - vllm 0.33.0, config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS
    - vllm 0.9.2, config.py
    """
    model, name = job.model(unit), model_name(unit)
    kind = model.model_type if model is not None and model.model_type else ""
    named = name.startswith(("gemma-2-", "gemma-3-", "glm-4-9b-0414", "glm-4-32b-0414"))
    if unit.text("dtype") in FLOAT16 and (kind in NO_FLOAT16 or (not kind and named)):
        setting = unit["dtype"]
        yield Problem(
            setting, f"dtype is {setting.value}, and this model overflows in float16", set_value(setting, "bfloat16")
        )


def _gguf_file(unit: Unit) -> Setting | None:
    model = unit.named("model")
    return (
        model if model is not None and isinstance(model.value, str) and model.value.lower().endswith(".gguf") else None
    )


def _join(place: Setting) -> Fix:
    other = "load-format" if place.name == "quantization" else "quantization"
    if place.value != "bitsandbytes":
        return advise(f"set {other} to bitsandbytes too, or leave both out")
    name = f"--{other}" if place.syntax == "shell" else other
    return add_after(place, name, "bitsandbytes")
