"""SGLang's server: scheduling, attention kernels against the GPU, names, ports and metrics."""

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules._sg import BACKENDS
from advisor_mcp.linting.unit import Setting, Unit

SGLANG = ("sglang",)
REPRODUCIBLE = ("flashinfer", "fa3", "triton")
# Compute capabilities that each attention backend runs on, where that holds for all versions that were read.
CAPABILITIES: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "fa3": ((8, 0), (9, 0)),
    "fa4": ((9, 0), (12, 9)),
    "flashmla": ((9, 0), (10, 9)),
    "cutlass_mla": ((10, 0), (10, 9)),
    "trtllm_mla": ((10, 0), (12, 9)),
    "trtllm_mha": ((9, 0), (12, 9)),
}


@rule("SG044", "priority-with-other-policy", tools=SGLANG, harm="crash", causes=("priority-policy",))
def priority_with_other_policy(unit: Unit, job: Job) -> Found:
    """Allow priority-with-other-policy.

    ## What it does
    Finds `--enable-priority-scheduling` with a `--schedule-policy` other than `fcfs` and `lof`, and options of priorities
    without it.

    ## Why is this bad?
    SGLang stops: "To use priority scheduling, schedule_policy must be 'fcfs' or 'lof'".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-priority-scheduling --schedule-policy lpm
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-priority-scheduling --schedule-policy fcfs
    ```

    ## Versions
    0.5.3 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    setting, policy = unit.setting("enable_priority_scheduling"), unit.text("schedule_policy", "fcfs")
    if setting is not None and setting.value is not False and policy not in ("fcfs", "lof", None):
        given = unit["schedule_policy"]
        yield Problem(
            given, f"priorities need the policy fcfs or lof, and it is {policy}", set_value(given, "fcfs"), (setting,)
        )


@rule("SG045", "priority-options-unused", tools=SGLANG, harm="ignored", severity="warning", causes=("priority-off",))
def priority_options_unused(unit: Unit, job: Job) -> Found:
    """Allow priority-options-unused.

    ## What it does
    Finds `--disable-priority-preemption`, `--default-priority-value` or `--priority-scheduling-preemption-threshold` without
    `--enable-priority-scheduling`.

    ## Why is this bad?
    They have no effect; SGLang says so in a warning.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --disable-priority-preemption
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --disable-priority-preemption --enable-priority-scheduling
    ```

    ## Versions
    All that have the options.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    names = ("disable_priority_preemption", "default_priority_value", "priority_scheduling_preemption_threshold")
    setting = unit.setting(*names)
    if setting is not None and setting.value is not False and unit.absent("enable_priority_scheduling"):
        message = f"{setting.written} is set, but enable-priority-scheduling is not"
        yield Problem(setting, message, _flag(setting, "enable-priority-scheduling"))


@rule("SG046", "attention-backend-of-another-gpu", tools=SGLANG, harm="crash", causes=("attention-backend-hw",))
def attention_backend_of_another_gpu(unit: Unit, job: Job) -> Found:
    """Allow attention-backend-of-another-gpu.

    ## What it does
    Compares the attention backend with the GPU's compute capability: fa3 runs on 8.0 to 9.0, flashmla from 9.0 on, cutlass_mla
    on 10.x, trtllm_mla from 10.0 on, trtllm_mha from 9.0 on.

    ## Why is this bad?
    SGLang stops: "FlashAttention v3 Backend requires SM>=80 and SM<=90", or "TRTLLM MLA backend is only supported on Blackwell
    GPUs".

    ## Example
    ```bash serve.sh gpu=b200-sxm-180gb
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --attention-backend fa3
    ```

    ## Use instead
    ```bash serve.sh gpu=b200-sxm-180gb
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B
    ```

    ## Versions
    All. What a GPU of 12.x takes has changed between versions and is not reported.

    ## References
    - sglang 0.5.9, srt/layers/attention/attention_registry.py
    - sglang 0.5.23, srt/arg_groups/attention_hook.py
    - sgl-project/sglang#12360
    - sgl-project/sglang#9140
    """
    named = [s for s in (unit.setting(name) for name in BACKENDS) if s is not None and s.value in CAPABILITIES]
    if not named or unit.text("device", "cuda") != "cuda":
        return
    if job.gpu is None or job.gpu.capability is None:
        yield Skipped("the GPU")
        return
    has = job.gpu.capability
    for setting in named:
        first, last = CAPABILITIES[setting.value]
        if not first <= has <= last and not (has[0] == 12 and setting.value == "fa3"):
            message = f"{setting.value} does not run on {job.gpu.name}, which has compute capability {has[0]}.{has[1]}"
            yield Problem(setting, message, remove(setting, why="SGLang chooses the backend for the GPU"))


@rule("SG047", "backend-not-reproducible", tools=SGLANG, harm="crash", causes=("deterministic-backend",))
def backend_not_reproducible(unit: Unit, job: Job) -> Found:
    """Allow backend-not-reproducible.

    ## What it does
    Checks the attention backend of `--enable-deterministic-inference`: flashinfer, fa3 or triton.

    ## Why is this bad?
    SGLang stops: "Currently only ['flashinfer', 'fa3', 'triton'] attention backends are supported for deterministic inference".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-deterministic-inference --attention-backend torch_native
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-deterministic-inference --attention-backend fa3
    ```

    ## Versions
    0.5.3 to 0.5.14.

    ## References
    - sglang 0.5.6.post2, srt/server_args.py, _handle_deterministic_inference
    - sglang 0.5.14, srt/server_args.py
    """
    setting, backend = unit.setting("enable_deterministic_inference"), unit.setting("attention_backend")
    if setting is None or setting.value is False or backend is None or not isinstance(backend.value, str):
        return
    later = ("fa4", "aiter", "ascend", "trtllm_mha", "flashmla", "trtllm_mla", "intel_xpu", "dsa", "nsa")
    if backend.value not in (*REPRODUCIBLE, *(later if unit.version is None or unit.since("0.5.10") else ("ascend",))):
        message = f"{backend.value} is not reproducible; {', '.join(REPRODUCIBLE)} are"
        yield Problem(backend, message, set_value(backend, "fa3"), (setting,))


@rule("SG048", "colon-in-served-name", tools=SGLANG, harm="crash", causes=("served-name-colon",))
def colon_in_served_name(unit: Unit, job: Job) -> Found:
    """Allow colon-in-served-name.

    ## What it does
    Finds a colon in `--served-model-name`.

    ## Why is this bad?
    The colon stands between a model and an adapter. SGLang stops: "served_model_name cannot contain a colon (':') character".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --served-model-name qwen3:8b
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --served-model-name qwen3-8b
    ```

    ## Versions
    0.5.5 and later.

    ## References
    - sglang 0.5.6.post2, srt/server_args.py, check_server_args
    - sglang 0.5.23, srt/arg_groups/validation_hook.py
    """
    setting = unit.setting("served_model_name")
    if setting is None or not isinstance(setting.value, str) or ":" not in setting.value or unit.before("0.5.5"):
        return
    if "://" not in setting.value:
        fix = set_value(setting, setting.value.replace(":", "-"))
        yield Problem(setting, f"the name {setting.value} has a colon, which stands before an adapter's name", fix)


@rule("SG049", "metrics-incomplete", tools=SGLANG, harm="crash", causes=("metrics-options",))
def metrics_incomplete(unit: Unit, job: Job) -> Found:
    """Allow metrics-incomplete.

    ## What it does
    Finds `--export-metrics-to-file` without a directory, and allowed custom labels without the header that carries them.

    ## Why is this bad?
    SGLang stops: "--export-metrics-to-file-dir is required when --export-metrics-to-file is enabled".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --export-metrics-to-file
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --export-metrics-to-file --export-metrics-to-file-dir /var/log/sglang
    ```

    ## Versions
    All that have the options.

    ## References
    - sglang 0.5.23, srt/arg_groups/validation_hook.py, check_server_args
    """
    pairs = (
        ("export_metrics_to_file", "export_metrics_to_file_dir"),
        ("tokenizer_metrics_allowed_custom_labels", "tokenizer_metrics_custom_labels_header"),
    )
    for name, needed in pairs:
        setting = unit.setting(name)
        header_by_default = needed.endswith("header") and needed not in unit
        if setting is None or setting.value is False or not unit.absent(needed) or header_by_default:
            continue
        flag = "--" + needed.replace("_", "-")
        yield Problem(setting, f"{setting.written} needs {flag}", advise(f"add {flag}"))


@rule("SG050", "tokenizing-two-ways", tools=SGLANG, harm="crash", causes=("tokenizer-options",))
def tokenizing_two_ways(unit: Unit, job: Job) -> Found:
    """Allow tokenizing-two-ways.

    ## What it does
    Finds `--enable-tokenizer-batch-encode` with `--enable-dynamic-batch-tokenizer`.

    ## Why is this bad?
    SGLang stops: "Cannot enable both --enable-tokenizer-batch-encode and --enable-dynamic-batch-tokenizer".

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-tokenizer-batch-encode --enable-dynamic-batch-tokenizer
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --enable-dynamic-batch-tokenizer
    ```

    ## Versions
    0.5.3 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/serving_hook.py
    """
    first, second = unit.setting("enable_tokenizer_batch_encode"), unit.setting("enable_dynamic_batch_tokenizer")
    if first is not None and second is not None and first.value is not False and second.value is not False:
        yield Problem(first, f"{first.written} and {second.written} exclude each other", remove(first), (second,))


@rule("SG051", "native-grpc-conflicts", tools=SGLANG, harm="crash", causes=("grpc-port",))
def native_grpc_conflicts(unit: Unit, job: Job) -> Found:
    """Allow native-grpc-conflicts.

    ## What it does
    Finds a `--grpc-port` that is the port of HTTP, or that stands beside `--api-key`.

    ## Why is this bad?
    SGLang stops: "--grpc-port must differ from --port". With a key it stops, because gRPC would not ask for it.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --port 30000 --grpc-port 30000
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --port 30000 --grpc-port 30001
    ```

    ## Versions
    0.5.15 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/serving_hook.py
    - sglang 0.5.23, srt/arg_groups/validation_hook.py
    """
    grpc, http = unit.number("grpc_port"), unit.number("port", 30000)
    setting, key = unit.setting("grpc_port"), unit.setting("api_key", "admin_api_key")
    if setting is None or "smg_grpc_mode" in unit or "grpc_mode" in unit:
        return
    if grpc is not None and grpc == http:
        yield Problem(setting, f"{grpc:.12g} is the port of HTTP too", set_value(setting, int(grpc) + 1))
    elif key is not None:
        yield Problem(setting, f"gRPC would not ask for the key of {key.written}", remove(setting), (key,))


@rule("SG052", "renamed-variable", tools=SGLANG, harm="deprecated", severity="info", causes=("env-renamed",))
def renamed_variable(unit: Unit, job: Job) -> Found:
    """Allow renamed-variable.

    ## What it does
    Finds environment variables by names that SGLang replaced: all that begin with `SGL_`, and some that became options.

    ## Why is this bad?
    SGLang still copies `SGL_` names and warns. What became an option is no longer read (a warning where the version is named).

    ## Example
    ```bash serve.sh
    export SGL_ENABLE_JIT_DEEPGEMM=0
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash serve.sh
    export SGLANG_ENABLE_JIT_DEEPGEMM=0
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B
    ```

    ## Versions
    0.5.4 and later.

    ## References
    - sglang 0.5.9, srt/environ.py
    - sglang 0.5.23, srt/environ.py, _handle_deprecated_envs
    """
    for name, setting in unit.env.items():
        if unit.before("0.5.4"):
            return
        if name.startswith("SGL_") and "INBALANCE" not in name:  # that one was turned round as well
            new = "SGLANG_" + name.removeprefix("SGL_")
            plain = setting.syntax == "env" and setting.key.text == name
            yield Problem(
                setting, f"{name} is called {new}", rename(setting, new) if plain else advise(f"rename it to {new}")
            )
        elif name in BECAME_OPTIONS and unit.since(BECAME_OPTIONS[name][0]):
            since, option = BECAME_OPTIONS[name]
            message = f"{name} is not read since {since}; it became {option}"
            yield Problem(
                setting, message, advise(f"use {option}"), (), "warning" if unit.version is not None else "info"
            )


# The first version that was read without a variable, and the option that took its place.
BECAME_OPTIONS = {
    "SGLANG_ENABLE_FLASHINFER_FP8_GEMM": ("0.5.9", "--fp8-gemm-backend flashinfer_trtllm"),
    "SGLANG_ENABLE_FLASHINFER_GEMM": ("0.5.9", "--fp8-gemm-backend flashinfer_trtllm"),
    "SGLANG_SUPPORT_CUTLASS_BLOCK_FP8": ("0.5.14", "--fp8-gemm-backend cutlass"),
    "SGLANG_FLASHINFER_FP4_GEMM_BACKEND": ("0.5.14", "--fp4-gemm-backend"),
    "SGLANG_CUTLASS_MOE": ("0.5.23", "--moe-runner-backend cutlass"),
}


@rule("SG053", "parser-renamed", tools=SGLANG, harm="deprecated", severity="info", causes=("parser-renamed",))
def parser_renamed(unit: Unit, job: Job) -> Found:
    """Allow parser-renamed.

    ## What it does
    Finds the tool call parsers `qwen25` and `glm45`.

    ## Why is this bad?
    They are called `qwen` and `glm`; SGLang warns that the old names will go.

    ## Example
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --tool-call-parser qwen25
    ```

    ## Use instead
    ```bash serve.sh
    python -m sglang.launch_server --model-path Qwen/Qwen3-8B --tool-call-parser qwen
    ```

    ## Versions
    0.5.3 and later.

    ## References
    - sglang 0.5.23, srt/arg_groups/serving_hook.py
    """
    setting = unit.setting("tool_call_parser")
    new = {"qwen25": "qwen", "glm45": "glm"}.get(str(setting.value)) if setting is not None else None
    if setting is not None and new and unit.since("0.5.3"):
        yield Problem(setting, f"the parser {setting.value} is called {new}", set_value(setting, new, safe=True))


def _flag(setting: Setting, name: str) -> Fix:
    return add_after(setting, "--" + name) if setting.syntax == "shell" else advise(f"set {name}")
