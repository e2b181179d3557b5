"""vLLM's environment variables: removed, mistyped, with words where numbers are read, and addresses that cannot work."""

from advisor_mcp.linting.edits import Fix, add_after, advise, both, remove, rename, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._options import typo
from advisor_mcp.linting.rules._vl import named_before
from advisor_mcp.linting.unit import FALSE, TRUE, Setting, Unit

# What took the place of a removed variable; what begins with dashes is an option.
SUCCESSORS = {
    "VLLM_ATTENTION_BACKEND": "--attention-backend",
    "VLLM_ALL2ALL_BACKEND": "--all2all-backend",
    "VLLM_MM_INPUT_CACHE_GIB": "--mm-processor-cache-gb",
    "VLLM_NVFP4_GEMM_BACKEND": "--linear-backend",
    "VLLM_FLASH_ATTN_VERSION": "--attention-config.flash_attn_version",
}
HINTS = {
    "VLLM_USE_V1": "the V0 engine is gone",
    "VLLM_USE_TRTLLM_ATTENTION": "use --attention-config.use_trtllm_attention",
    "VLLM_DISABLE_FLASHINFER_PREFILL": "use --attention-config.disable_flashinfer_prefill",
    "VLLM_USE_CUDNN_PREFILL": "use --attention-config.use_cudnn_prefill",
    "VLLM_FLASHINFER_MOE_BACKEND": "use --moe-backend",
    "VLLM_MXFP4_USE_MARLIN": "use --moe-backend marlin",
    "VLLM_TORCH_PROFILER_DIR": "use --profiler-config with torch_profiler_dir",
}
# Variables of type bool that are compared with words, so that they may be words; all others are read with int().
WORDS_ALLOWED = (
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_BEAM_ALWAYS_CONSTRAIN_OUTPUT",
    "VLLM_USE_MODELSCOPE", "VLLM_DEBUG_LOG_API_SERVER_RESPONSE", "VLLM_DISABLE_PYNCCL", "VLLM_DOCKER_BUILD_CONTEXT",
    "VLLM_ENABLE_CUDA_COMPATIBILITY", "VLLM_ENFORCE_STRICT_TOOL_CALLING", "VLLM_MXFP4_EMULATION_DEQUANT_AT_LOAD",
    "VLLM_MXFP8_EMULATION_DEQUANT_AT_LOAD", "VLLM_REPLICATE_EMBED", "VLLM_SKIP_MODEL_NAME_VALIDATION",
    "VLLM_TRITON_FORCE_FIRST_CONFIG", "VLLM_USE_PRECOMPILED", "VLLM_USE_OINK_OPS", "VLLM_USE_HW_AGNOSTIC",
    "VLLM_USE_PRECOMPILED_RUST", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
)  # fmt: skip
ONLY_ONE = (
    "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK", "VLLM_SKIP_P2P_CHECK", "VLLM_USE_STANDALONE_COMPILE",
    "VLLM_USE_BREAKABLE_CUDAGRAPH", "VLLM_MARLIN_USE_ATOMIC_ADD", "VLLM_RANDOMIZE_DP_DUMMY_INPUTS",
    "VLLM_V1_USE_OUTLINES_CACHE",
)  # fmt: skip
CHOICES = {
    "VLLM_WORKER_MULTIPROC_METHOD": ("spawn", "fork"),
    "VLLM_FLOAT32_MATMUL_PRECISION": ("highest", "high", "medium"),
    "VLLM_DEEP_GEMM_WARMUP": ("skip", "full", "relax"),
    "VLLM_COMPILE_CACHE_SAVE_FORMAT": ("binary", "unpacked"),
}
# Attention backends that were dropped: the first version that was read without them, and what to write instead.
BACKENDS = {
    "FLASH_ATTN_VLLM_V1": ("0.11.1", "FLASH_ATTN"),
    "FLASHINFER_VLLM_V1": ("0.11.1", "FLASHINFER"),
    "TRITON_ATTN_VLLM_V1": ("0.11.1", "TRITON_ATTN"),
    "TRITON_MLA_VLLM_V1": ("0.11.1", "TRITON_MLA"),
    "FLASHMLA_VLLM_V1": ("0.11.1", "FLASHMLA"),
    "ROCM_AITER_MLA_VLLM_V1": ("0.11.1", "ROCM_AITER_MLA"),
    "CUTLASS_MLA_VLLM_V1": ("0.10.1", "CUTLASS_MLA"),
    "XFORMERS_VLLM_V1": ("0.11.1", "FLASH_ATTN"),
    "XFORMERS": ("0.12", "FLASH_ATTN"),
    "ROCM_FLASH": ("0.11.1", "ROCM_ATTN"),
    "DUAL_CHUNK_FLASH_ATTN": ("0.11.1", "FLASH_ATTN"),
    "BLOCK_SPARSE_FLASH_ATTN": ("0.10", "FLASH_ATTN"),
}


@rule("VL090", "removed-variable", tools=("vllm",), harm="ignored", severity="warning", causes=("env-removed",))
def removed_variable(unit: Unit, job: Job) -> Found:
    """Allow removed-variable.

    ## What it does
    Finds `VLLM_` variables that earlier versions of vLLM read and the version in use does not.

    ## Why is this bad?
    Nothing happens: vLLM logs at most "Unknown vLLM environment variable detected", and the server runs with the default
    backend, cache or engine.

    ## Example
    ```bash launch.sh
    export VLLM_ATTENTION_BACKEND=FLASHINFER
    vllm serve Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash launch.sh
    vllm serve Qwen/Qwen3-8B --attention-backend FLASHINFER
    ```

    ## Versions
    From the first listed version that lacks the variable. Where no version is named, what 0.20 and later dropped is an info.

    ## References
    - vllm 0.33.0, envs.py, validate_environ
    - vllm-project/vllm#17431
    """
    if unit.table is None:
        return
    for setting in _variables(unit):
        past = unit.table.history("env", setting.name)
        if past is None or past.until is None or unit.table.option("env", setting.name, unit.target) is not None:
            continue
        if not unit.since(past.until):
            continue
        hint = HINTS.get(setting.name, "")
        message = f"vLLM does not read {setting.name} since {past.until}" + (f": {hint}" if hint else "")
        yield Problem(setting, message, _successor(setting, unit, job), (), _weight(setting, unit, past.until))


@rule("VL091", "mistyped-variable", tools=("vllm",), harm="ignored", severity="warning", causes=("env-unknown",))
def mistyped_variable(unit: Unit, job: Job) -> Found:
    """Allow mistyped-variable.

    ## What it does
    Finds `VLLM_` variables that no version of vLLM reads and that are a letter or two away from one that it reads.

    ## Why is this bad?
    The variable has no effect.

    ## Example
    ```bash launch.sh
    export VLLM_WORKER_MULTIPROC_METHODS=spawn
    vllm serve Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash launch.sh
    export VLLM_WORKER_MULTIPROC_METHOD=spawn
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, envs.py, validate_environ
    """
    if unit.table is None:
        return
    for setting in _variables(unit):
        if unit.table.history("env", setting.name) is not None:
            continue
        closest = unit.table.closest("env", setting.name, unit.target)
        if closest is None or closest in unit.env or not typo(setting.name, closest):
            continue
        edit = setting.syntax == "env" and setting.key.text == setting.name
        fix = rename(setting, closest) if edit else advise(f"rename it to {closest}")
        yield Problem(setting, f"vLLM reads no {setting.name}; did you mean {closest!r}?", fix)


@rule("VL092", "switch-that-is-no-number", tools=("vllm",), harm="crash", causes=("env-bool",))
def switch_that_is_no_number(unit: Unit, job: Job) -> Found:
    """Allow switch-that-is-no-number.

    ## What it does
    Finds `VLLM_` switches with a word such as `true` that vLLM reads with `int()` or compares with `1`.

    ## Why is this bad?
    The first kind stops vLLM: "invalid literal for int() with base 10: 'true'". The second kind stays as if it was not set
    (reported as a warning).

    ## Example
    ```bash launch.sh
    export VLLM_SERVER_DEV_MODE=true
    vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Use instead
    ```bash launch.sh
    export VLLM_SERVER_DEV_MODE=1
    vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Versions
    All. `VLLM_USE_MODELSCOPE` takes `true` only before 0.27.

    ## References
    - vllm 0.33.0, envs.py
    - vllm 0.24.0, envs.py
    """
    for setting in unit.env.values():
        if not isinstance(setting.value, str) or setting.value == "":
            continue
        word = setting.value.lower()
        number = "1" if word in TRUE else "0"
        if setting.name == "VLLM_USE_MODELSCOPE" and word == "1" and named_before(unit, "0.27"):
            yield Problem(setting, "vLLM compares it with true before 0.27", set_value(setting, "True"), (), "warning")
        elif setting.name in ONLY_ONE and word in TRUE and word != "1":
            message = f"{setting.name} counts as on with 1 only, and it is {setting.value}"
            yield Problem(setting, message, set_value(setting, number), (), "warning")
        elif _read_as_number(setting, unit) and (word in TRUE | FALSE) and word not in ("0", "1"):
            message = f"{setting.name} is read as a number, and it is {setting.value}"
            yield Problem(setting, message, set_value(setting, number))


@rule("VL093", "variable-choice", tools=("vllm",), harm="crash", causes=("env-choice",))
def variable_choice(unit: Unit, job: Job) -> Found:
    """Allow variable-choice.

    ## What it does
    Checks the values of `VLLM_` variables that take a few words only.

    ## Why is this bad?
    vLLM stops: "Invalid value 'forkserver' for VLLM_WORKER_MULTIPROC_METHOD. Valid options: ['spawn', 'fork']".

    ## Example
    ```bash launch.sh
    export VLLM_WORKER_MULTIPROC_METHOD=forkserver
    vllm serve Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash launch.sh
    export VLLM_WORKER_MULTIPROC_METHOD=spawn
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All that read the variable.

    ## References
    - vllm 0.33.0, envs.py, env_with_choices
    """
    for name, choices in CHOICES.items():
        setting = unit.env.get(name)
        if setting is not None and isinstance(setting.value, str) and setting.value.lower() not in ("", *choices):
            message = f"{name} is {setting.value}, and it is one of {', '.join(choices)}"
            yield Problem(setting, message, set_value(setting, choices[0]))


@rule("VL094", "removed-attention-backend", tools=("vllm",), harm="crash", causes=("attention-backend-removed",))
def removed_attention_backend(unit: Unit, job: Job) -> Found:
    """Allow removed-attention-backend.

    ## What it does
    Finds attention backends that the version in use no longer has, in `--attention-config` and (before 0.15)
    `VLLM_ATTENTION_BACKEND`.

    ## Why is this bad?
    vLLM stops: "Unknown attention backend: 'XFORMERS'".

    ## Example
    ```bash launch.sh vllm=0.13.0
    export VLLM_ATTENTION_BACKEND=XFORMERS
    vllm serve google/gemma-3-12b-it
    ```

    ## Use instead
    ```bash launch.sh vllm=0.13.0
    export VLLM_ATTENTION_BACKEND=FLASH_ATTN
    vllm serve google/gemma-3-12b-it
    ```

    ## Versions
    Names ending in `_VLLM_V1` and `ROCM_FLASH` until 0.11.0, XFORMERS until 0.11.2.

    ## References
    - vllm 0.12.0, attention/backends/registry.py
    - vllm 0.33.0, v1/attention/backends/registry.py
    """
    setting = unit.setting("attention_config.backend")
    if setting is None and unit.before("0.15"):
        setting = unit.env.get("VLLM_ATTENTION_BACKEND")
    if setting is None or not isinstance(setting.value, str):
        return
    until, better = BACKENDS.get(setting.value.upper(), ("", ""))
    if until and unit.since(until):
        message = f"vLLM has no attention backend {setting.value} since {until}"
        yield Problem(setting, message, set_value(setting, better))


@rule("VL095", "internal-port-is-no-port", tools=("vllm",), harm="crash", causes=("vllm-port",))
def internal_port_is_no_port(unit: Unit, job: Job) -> Found:
    """Allow internal-port-is-no-port.

    ## What it does
    Finds a `VLLM_PORT` that is no number, or that is the port of the API as well.

    ## Why is this bad?
    `VLLM_PORT` is not the API's port: it is where vLLM's own processes begin to look for free ports to talk to each other. An
    address stops vLLM: "VLLM_PORT appears to be a URI". The API's own port is taken by then, or taken from the API.

    ## Example
    ```bash launch.sh
    export VLLM_PORT=8000
    vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2 --port 8000
    ```

    ## Use instead
    ```bash launch.sh
    vllm serve Qwen/Qwen3-8B --tensor-parallel-size 2 --port 8000
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, envs.py, get_vllm_port
    - vllm documentation, configuration/env_vars
    """
    setting = unit.env.get("VLLM_PORT")
    if setting is None or not isinstance(setting.value, str):
        return
    port = unit.setting("port")
    if not setting.value.strip().isdigit():
        yield Problem(setting, f"VLLM_PORT is a port's number, and it is {setting.value}", remove(setting))
    elif port is not None and port.value == setting.value.strip():
        message = f"VLLM_PORT is for vLLM's own processes, and {port.value} is the port of the API"
        yield Problem(setting, message, remove(setting), (port,), "warning")


@rule("VL096", "own-address-nobody-reaches", tools=("vllm",), harm="hang", causes=("host-ip",))
def own_address_nobody_reaches(unit: Unit, job: Job) -> Found:
    """Allow own-address-nobody-reaches.

    ## What it does
    Finds `VLLM_HOST_IP` with `0.0.0.0`, and with `127.0.0.1` or `localhost` where the server spans several machines.

    ## Why is this bad?
    It is the address that this node tells the others, not the one that the API listens on. They wait for a peer on their own
    machine, or vLLM finds the same address twice and stops: "Every node should have a unique IP address".

    ## Example
    ```bash launch.sh
    export VLLM_HOST_IP=0.0.0.0
    vllm serve Qwen/Qwen3-32B --tensor-parallel-size 16 --distributed-executor-backend ray
    ```

    ## Use instead
    ```bash launch.sh
    export VLLM_HOST_IP=$(hostname -I | cut -d' ' -f1)
    vllm serve Qwen/Qwen3-32B --tensor-parallel-size 16 --distributed-executor-backend ray
    ```

    ## Versions
    All. `0.0.0.0` is a warning where the server is on one machine.

    ## References
    - vllm 0.33.0, envs.py, VLLM_HOST_IP
    - vllm 0.33.0, v1/executor/ray_executor.py
    """
    setting, nodes = unit.env.get("VLLM_HOST_IP"), unit.number("nnodes", 1)
    if setting is None or setting.value not in ("0.0.0.0", "127.0.0.1", "localhost"):
        return
    spread = (
        (nodes is not None and nodes > 1) or "data_parallel_address" in unit or (unit.size("tensor_parallel") or 0) > 8
    )
    if spread or setting.value == "0.0.0.0":
        message = f"VLLM_HOST_IP is what other nodes are told, and none reaches this one at {setting.value}"
        fix = advise("set it to the node's own address, or leave it out")
        yield Problem(setting, message, fix, (), None if spread else "warning")


@rule("VL097", "function-trace-left-on", tools=("vllm",), harm="slow", severity="warning", causes=("debug-left-on",))
def function_trace_left_on(unit: Unit, job: Job) -> Found:
    """Allow function-trace-left-on.

    ## What it does
    Finds `VLLM_TRACE_FUNCTION=1`.

    ## Why is this bad?
    Every call of a Python function is written to a file. It is for finding hangs: vLLM says that it "will slow down" the
    server, and that it is for debugging only.

    ## Example
    ```bash launch.sh
    export VLLM_TRACE_FUNCTION=1
    vllm serve Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash launch.sh
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, usage/troubleshooting
    - vllm 0.33.0, logger.py, enable_trace_function_call
    """
    setting = unit.env.get("VLLM_TRACE_FUNCTION")
    if setting is not None and setting.value == "1":
        yield Problem(setting, "every function call is written to a file", remove(setting))


def _variables(unit: Unit) -> list[Setting]:
    return [setting for name, setting in unit.env.items() if name.startswith("VLLM_")]


def _read_as_number(setting: Setting, unit: Unit) -> bool:
    """Whether vLLM reads a switch with int()."""
    if unit.table is None or not setting.name.startswith("VLLM_") or setting.name in (*WORDS_ALLOWED, *ONLY_ONE):
        return False
    option = unit.table.option("env", setting.name, unit.target)
    if option is None or not option.type.startswith("bool") or setting.name.startswith(("VLLM_ROCM_", "VLLM_MORIIO")):
        return False
    return "TPU" not in setting.name and "HPU" not in setting.name and "TORCH_PROFILER" not in setting.name


def _weight(setting: Setting, unit: Unit, until: str) -> Severity:
    """A leftover that asks for what is the default today does no harm; a late removal may not have reached the user."""
    if setting.name == "VLLM_USE_V1" and setting.value in ("1", 1):
        return "info"
    if unit.version is not None:
        return "warning"
    major, minor = (int(part) for part in until.split(".")[:2])
    return "warning" if (major, minor) < (0, 20) else "info"


def _successor(setting: Setting, unit: Unit, job: Job) -> Fix:
    """Take the variable away, and add the option that took its place where there is one server to add it to."""
    flag = SUCCESSORS.get(setting.name, "")
    if not flag or not isinstance(setting.value, str):
        return remove(setting)
    place = next((s for s in reversed(unit.settings.values()) if s.syntax == "shell" and "." not in s.name), None)
    if place is None or len(job.others("vllm")) != 1 or flag.lstrip("-").replace("-", "_") in unit:
        return remove(setting, why=f"the option is {flag} {setting.value}")
    return both(remove(setting), add_after(place, flag, setting.value))
