"""vLLM's server: which model, and options that have no effect or no leave without another one."""

from collections.abc import Callable

from advisor_mcp.linting.edits import Fix, add_after, advise, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._vl import is_on, named_before
from advisor_mcp.linting.unit import Setting, Unit


@rule("VL100", "model-as-option-of-serve", tools=("vllm",), harm="crash", severity="info", causes=("serve-model",))
def model_as_option_of_serve(unit: Unit, job: Job) -> Found:
    """Allow model-as-option-of-serve.

    ## What it does
    Finds `vllm serve --model X`, where the model is a word without option.

    ## Why is this bad?
    Older versions stop: "With `vllm serve`, you should provide the model as a positional argument". Later ones warn that the
    option will be removed.

    ## Example
    ```bash serve.sh vllm=0.10.2
    vllm serve --model Qwen/Qwen3-8B --max-model-len 32768
    ```

    ## Use instead
    ```bash serve.sh vllm=0.10.2
    vllm serve Qwen/Qwen3-8B --max-model-len 32768
    ```

    ## Versions
    An error before 0.11, an info from then on.

    ## References
    - vllm 0.10.2, utils/__init__.py, FlexibleArgumentParser.parse_args
    - vllm 0.33.0, utils/argparse_utils.py, FlexibleArgumentParser.parse_args
    """
    setting = unit.setting("model")
    typed = unit.program == "vllm serve" and unit.span.text.rpartition("/")[2] == "vllm"
    if setting is None or not typed or setting.syntax != "shell" or setting.written != "--model":
        return
    severity: Severity = "error" if named_before(unit, "0.11") else "info"
    yield Problem(setting, "vllm serve takes the model without --model", _bare(setting), (), severity)


@rule("VL101", "no-model-named", tools=("vllm",), harm="unintended", severity="warning", causes=("no-model",))
def no_model_named(unit: Unit, job: Job) -> Found:
    """Allow no-model-named.

    ## What it does
    Finds a vLLM server that names no model.

    ## Why is this bad?
    vLLM does not stop: it downloads and serves its default, a model of 0.6 billion parameters. With `--served-model-name` it
    stops in recent versions: "`model` should be provided as the first positional argument".

    ## Example
    ```bash serve.sh
    vllm serve --max-model-len 32768 --served-model-name my-model
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --max-model-len 32768 --served-model-name my-model
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/model.py, ModelConfig.model
    - vllm 0.33.0, utils/argparse_utils.py
    """
    typed = unit.program == "vllm serve" and unit.span.text.rpartition("/")[2] == "vllm"
    if typed and unit.settings and unit.absent("model", "model_tag", "config") and not unit.arguments:
        yield Problem(next(iter(unit.settings.values())), "no model is named, so vLLM serves its default model")


@rule("VL102", "option-needs-another", tools=("vllm",), harm="crash", causes=("needs-option",))
def option_needs_another(unit: Unit, job: Job) -> Found:
    """Allow option-needs-another.

    ## What it does
    Finds options that vLLM takes together with another one only: detailed traces without an address for traces, Ray's
    profiling without Ray, the size of objects in shared memory without that cache, NUMA nodes without NUMA binding, a cache
    backend without a size, elastic expert parallelism without load balancing, metrics of requests without statistics.

    ## Why is this bad?
    vLLM stops and names the option that is missing; a cache backend without a size is ignored (reported as a warning).

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --collect-detailed-traces all
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --collect-detailed-traces all --otlp-traces-endpoint http://otel:4317
    ```

    ## Versions
    From the version on that has the option.

    ## References
    - vllm 0.33.0, config/observability.py, config/multimodal.py, config/parallel.py, config/vllm.py
    - vllm 0.33.0, entrypoints/common/cli_args.py, validate_parsed_serve_args
    """
    for name, satisfied, need in NEEDS:
        setting = unit.setting(name)
        if setting is None or setting.value is False or unit.open or satisfied(unit):
            continue
        severity: Severity | None = "warning" if name == "kv_offloading_backend" else None
        yield Problem(setting, f"{setting.written} needs {need}", advise(f"set {need}"), (), severity)


NEEDS: tuple[tuple[str, Callable[[Unit], bool], str], ...] = (
    ("collect_detailed_traces", lambda unit: "otlp_traces_endpoint" in unit, "--otlp-traces-endpoint"),
    (
        "ray_workers_use_nsight",
        lambda unit: unit.text("distributed_executor_backend", "mp") in ("ray", None),
        "--distributed-executor-backend ray",
    ),
    (
        "mm_shm_cache_max_object_size_mb",
        lambda unit: unit.text("mm_processor_cache_type", "lru") in ("shm", None),
        "--mm-processor-cache-type shm",
    ),
    ("numa_bind_nodes", lambda unit: "numa_bind" in unit, "--numa-bind"),
    ("numa_bind_cpus", lambda unit: "numa_bind" in unit, "--numa-bind"),
    ("kv_offloading_backend", lambda unit: "kv_offloading_size" in unit, "--kv-offloading-size"),
    ("enable_elastic_ep", lambda unit: "enable_eplb" in unit, "--enable-eplb"),
    (
        "enable_per_request_metrics",
        lambda unit: not is_on(unit, "disable_log_stats"),
        "statistics, which --disable-log-stats turns off",
    ),
)


@rule("VL103", "structured-output-options", tools=("vllm",), harm="crash", causes=("structured-outputs",))
def structured_output_options(unit: Unit, job: Job) -> Found:
    """Allow structured-output-options.

    ## What it does
    Checks the options of structured outputs against their backend: no whitespace needs xgrammar or guidance, no additional
    properties needs guidance.

    ## Why is this bad?
    vLLM stops: "disable_any_whitespace is only supported for xgrammar and guidance backends". Where the backend is `auto`, it
    says the same.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --structured-outputs-config '{"disable_any_whitespace":true}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --structured-outputs-config '{"backend":"xgrammar","disable_any_whitespace":true}'
    ```

    ## Versions
    0.11 and later.

    ## References
    - vllm 0.33.0, config/structured_outputs.py
    """
    section = unit.section("structured_outputs_config")
    backend = unit.text("structured_outputs_config.backend", "auto")
    allowed = {"disable_any_whitespace": ("xgrammar", "guidance"), "disable_additional_properties": ("guidance",)}
    for name, backends in allowed.items():
        setting = section.get(name)
        if setting is not None and setting.value is True and backend is not None and backend not in backends:
            message = f"{name} needs the backend {' or '.join(backends)}, and it is {backend}"
            yield Problem(setting, message, _backend(section.get("backend"), setting, backends[0]))


@rule("VL104", "offloading-two-ways", tools=("vllm",), harm="ignored", severity="warning", causes=("offload-backend",))
def offloading_two_ways(unit: Unit, job: Job) -> Found:
    """Allow offloading-two-ways.

    ## What it does
    Finds weights that are offloaded in two ways: `--cpu-offload-gb` (mapped memory) and `--offload-group-size` (prefetch), or
    options of one way where `--offload-backend` names the other.

    ## Why is this bad?
    vLLM takes one and ignores the other with a warning, so less is offloaded than was meant.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --offload-backend prefetch --cpu-offload-gb 20
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --offload-backend uva --cpu-offload-gb 20
    ```

    ## Versions
    0.16 and later.

    ## References
    - vllm 0.33.0, config/offload.py
    """
    mapped, prefetch = unit.setting("cpu_offload_gb"), unit.setting("offload_group_size")
    backend = unit.text("offload_backend", "auto")
    if mapped is not None and unit.number("cpu_offload_gb", 0):
        if backend == "prefetch":
            fix = set_value(unit["offload_backend"], "uva")
            yield Problem(
                mapped, "the backend is prefetch, which ignores cpu_offload_gb", fix, (unit["offload_backend"],)
            )
        elif prefetch is not None and unit.number("offload_group_size", 0) and backend == "auto":
            yield Problem(mapped, "offload_group_size asks for prefetch as well", remove(mapped), (prefetch,))
    if prefetch is not None and unit.number("offload_group_size", 0) and backend == "uva":
        fix = set_value(unit["offload_backend"], "prefetch")
        yield Problem(prefetch, "the backend is uva, which ignores offload_group_size", fix, (unit["offload_backend"],))


@rule("VL105", "key-without-certificate", tools=("vllm", "sglang"), harm="crash", causes=("ssl-pair",))
def key_without_certificate(unit: Unit, job: Job) -> Found:
    """Allow key-without-certificate.

    ## What it does
    Finds `--ssl-keyfile` without `--ssl-certfile`, and the other way round.

    ## Why is this bad?
    The server stops when it opens its port, after the model was loaded: the certificate or its key is missing. SGLang stops at
    once.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --ssl-keyfile /certs/tls.key
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --ssl-keyfile /certs/tls.key --ssl-certfile /certs/tls.crt
    ```

    ## Versions
    All. A certificate file may hold its key too; for vLLM only the first case is reported.

    ## References
    - uvicorn 0.35, config.py, create_ssl_context
    - sglang 0.5.23, srt/server_args.py
    """
    key, certificate = unit.setting("ssl_keyfile"), unit.setting("ssl_certfile")
    if key is not None and unit.absent("ssl_certfile"):
        yield Problem(key, "a key is set, but no certificate", _beside(key, "ssl_certfile", "/path/to/tls.crt"))
    elif certificate is not None and unit.tool == "sglang" and unit.absent("ssl_keyfile"):
        yield Problem(
            certificate, "a certificate is set, but no key", _beside(certificate, "ssl_keyfile", "/path/to/tls.key")
        )


@rule("VL106", "whisper-with-fork", tools=("vllm",), harm="hang", severity="warning", causes=("whisper-fork",))
def whisper_with_fork(unit: Unit, job: Job) -> Found:
    """Allow whisper-with-fork.

    ## What it does
    Finds a Whisper model with `VLLM_WORKER_MULTIPROC_METHOD=fork`.

    ## Why is this bad?
    vLLM warns that Whisper "is known to have issues with forked workers" and that startup may hang.

    ## Example
    ```bash serve.sh
    VLLM_WORKER_MULTIPROC_METHOD=fork vllm serve openai/whisper-large-v3
    ```

    ## Use instead
    ```bash serve.sh
    VLLM_WORKER_MULTIPROC_METHOD=spawn vllm serve openai/whisper-large-v3
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/vllm.py, __post_init__
    """
    method, model = unit.env.get("VLLM_WORKER_MULTIPROC_METHOD"), unit.named("model")
    if method is not None and method.value == "fork" and model is not None and "whisper" in str(model.value).lower():
        yield Problem(
            method, "workers of a Whisper model may hang when they are forked", set_value(method, "spawn"), (model,)
        )


def _bare(setting: Setting) -> Fix:
    """Take `--model` away and leave its value, where it stands."""
    fix = rename(setting, "model")
    edit = fix.edits[0]
    blank = setting.at.start - setting.key.end
    at_once = setting.key.source.text[setting.key.end : setting.at.start]
    if blank < 1 or at_once.strip():
        return advise("write the model without --model")
    return Fix("write the model without --model", (type(edit)(edit.source, edit.start, setting.at.start, ""),))


def _backend(backend: Setting | None, beside: Setting, value: str) -> Fix:
    return set_value(backend, value) if backend is not None else add_after(beside, "backend", value)


def _beside(setting: Setting, name: str, value: str) -> Fix:
    flag = "--" + name.replace("_", "-") if setting.syntax == "shell" else name
    return add_after(setting, flag, value)
