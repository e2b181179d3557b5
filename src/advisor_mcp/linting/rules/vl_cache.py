"""vLLM's key-value cache: transfer to other servers, sleep, and the allocator's settings that break them."""

import re

from advisor_mcp.linting.edits import Fix, advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, Severity, rule
from advisor_mcp.linting.rules._vl import is_absent, is_on, names_since, nearest, switch
from advisor_mcp.linting.unit import Setting, Unit

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
ROLES = ("kv_producer", "kv_consumer", "kv_both")
CONNECTORS = names_since({
    "": "MultiConnector LMCacheConnectorV1 MooncakeConnector MooncakeStoreConnector PyNcclConnector LMCacheConnector",
    "0.8.5": "P2pNcclConnector NixlConnector SharedStorageConnector",
    "0.10.2": "LMCacheMPConnector OffloadingConnector DecodeBenchConnector",
    "0.14.1": "ExampleConnector ExampleHiddenStatesConnector MoRIIOConnector",
    "0.17.1": "NixlPullConnector NixlPushConnector FlexKVConnectorV1 SimpleCPUOffloadConnector HF3FSKVConnector",
    "0.28.0": "HiSparseConnector",
})  # fmt: skip
# The first version that was read without a connector, and its successor.
GONE = {"SharedStorageConnector": ("0.17", "ExampleConnector"), "P2pNcclConnector": ("0.24", "NixlConnector")}


@rule("VL080", "expandable-segments-with-sleep", tools=("vllm",), harm="crash", causes=("alloc-conf-sleep",))
def expandable_segments_with_sleep(unit: Unit, job: Job) -> Found:
    """Allow expandable-segments-with-sleep.

    ## What it does
    Finds `expandable_segments:True` in PyTorch's allocator settings with `--enable-sleep-mode`.

    ## Why is this bad?
    Sleep mode keeps the weights in a memory pool with fixed mappings. vLLM stops: "Expandable segments are not compatible with
    memory pool."

    ## Example
    ```bash launch.sh vllm=0.12.0
    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Use instead
    ```bash launch.sh vllm=0.12.0
    vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Versions
    Before 0.20; from then on vLLM turns the setting off for its pool. A warning where no version was named.

    ## References
    - vllm 0.17.1, device_allocator/cumem.py
    - vllm 0.20.2, device_allocator/cumem.py
    - vllm-project/vllm#14189
    - pytorch/pytorch#147851
    - vllm-project/vllm#40812
    """
    setting = _expandable(unit)
    sleep = unit.setting("enable_sleep_mode")
    if (
        setting is None
        or sleep is None
        or not is_on(unit, "enable_sleep_mode")
        or not (unit.version is None or unit.before("0.20"))
    ):
        return
    severity: Severity | None = "warning" if unit.version is None else None
    message = f"{setting.name} turns expandable segments on, which the memory pool of sleep mode cannot have (before vLLM 0.20)"
    yield Problem(setting, message, _without(setting), (sleep,), severity)


@rule("VL081", "expandable-segments-with-transfer", tools=("vllm",), harm="crash", causes=("alloc-conf-kv-transfer",))
def expandable_segments_with_transfer(unit: Unit, job: Job) -> Found:
    """Allow expandable-segments-with-transfer.

    ## What it does
    Finds `expandable_segments:True` in PyTorch's allocator settings with a connector in `--kv-transfer-config`, where
    `--enable-cumem-allocator` is not set.

    ## Why is this bad?
    Connectors register the cache's memory with the network card. Expandable segments move it to other pages: transfers fail
    or carry other data. vLLM stops where it sees the old name of the variable; `PYTORCH_ALLOC_CONF` passes its check.

    ## Example
    ```bash prefill.sh
    export PYTORCH_ALLOC_CONF=expandable_segments:True
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
    ```

    ## Use instead
    ```bash prefill.sh
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
    ```

    ## Versions
    All; the check is in 0.24 and later.

    ## References
    - vllm 0.33.0, config/vllm.py, _verify_kv_transfer_compat
    - vllm-project/vllm#54351
    """
    setting, connector = _expandable(unit), unit.setting("kv_transfer_config.kv_connector")
    if (
        setting is None
        or connector is None
        or is_on(unit, "enable_cumem_allocator")
        or is_on(unit, "enable_sleep_mode")
    ):
        return
    message = (
        f"{setting.name} turns expandable segments on, which move the memory that {connector.value} has registered"
    )
    yield Problem(setting, message, _without(setting), (connector,))


@rule("VL082", "transfer-without-role", tools=("vllm",), harm="crash", causes=("kv-role",))
def transfer_without_role(unit: Unit, job: Job) -> Found:
    """Allow transfer-without-role.

    ## What it does
    Checks that a `--kv-transfer-config` with a connector has a `kv_role`, and that it is one of `kv_producer`, `kv_consumer`
    and `kv_both`.

    ## Why is this bad?
    vLLM stops: "Please specify kv_role when kv_connector is set", or "Unsupported kv_role".

    ## Example
    ```bash prefill.sh
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"prefill"}'
    ```

    ## Use instead
    ```bash prefill.sh
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"kv_producer"}'
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/kv_transfer.py, KVTransferConfig
    """
    section = unit.section("kv_transfer_config")
    role = section.get("kv_role")
    if role is None and "kv_connector" in section:
        setting = section["kv_connector"]
        yield Problem(setting, "the connector has no kv_role", advise('add "kv_role": "kv_both"'))
    elif role is not None and isinstance(role.value, str) and role.value not in ROLES:
        better = {
            "prefill": "kv_producer",
            "producer": "kv_producer",
            "decode": "kv_consumer",
            "consumer": "kv_consumer",
            "both": "kv_both",
        }
        fix = set_value(role, better.get(role.value.lower(), "kv_both"))
        yield Problem(role, f"kv_role is {role.value}, and it is one of {', '.join(ROLES)}", fix)


@rule("VL083", "unknown-connector", tools=("vllm",), harm="crash", causes=("kv-connector",))
def unknown_connector(unit: Unit, job: Job) -> Found:
    """Allow unknown-connector.

    ## What it does
    Checks that `kv_connector` names a connector of the version in use, unless `kv_connector_module_path` says where it is.

    ## Why is this bad?
    vLLM stops: "Unsupported connector type".

    ## Example
    ```bash prefill.sh
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NIXLConnector","kv_role":"kv_both"}'
    ```

    ## Use instead
    ```bash prefill.sh
    vllm serve Qwen/Qwen3-32B --kv-transfer-config '{"kv_connector":"NixlConnector","kv_role":"kv_both"}'
    ```

    ## Versions
    The names are those of 0.8.5 to 0.33.0. SharedStorageConnector became ExampleConnector by 0.17, P2pNcclConnector is gone
    by 0.24.

    ## References
    - vllm 0.33.0, distributed/kv_transfer/kv_connector/factory.py
    """
    setting = unit.setting("kv_transfer_config.kv_connector")
    if setting is None or not isinstance(setting.value, str) or "kv_transfer_config.kv_connector_module_path" in unit:
        return
    name = setting.value
    gone = name in GONE and unit.since(GONE[name][0])
    if gone or is_absent(unit, name, CONNECTORS):
        better = (
            GONE[name][1]
            if gone
            else next((n for n in CONNECTORS if n.lower() == name.lower()), nearest(name, CONNECTORS))
        )
        which = f"vLLM {unit.target}" if unit.version is not None else "vLLM"
        yield Problem(setting, f"{which} has no connector {name}", set_value(setting, better) if better else None)


@rule("VL084", "cache-events-not-published", tools=("vllm",), harm="ignored", severity="warning", causes=("kv-events",))
def cache_events_not_published(unit: Unit, job: Job) -> Found:
    """Allow cache-events-not-published.

    ## What it does
    Finds a publisher in `--kv-events-config` with events off, and events on while prefix caching is off.

    ## Why is this bad?
    vLLM only warns: no event is sent, and a router that relies on them sends requests anywhere.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --kv-events-config '{"publisher":"zmq","endpoint":"tcp://*:5557"}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --kv-events-config '{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557"}'
    ```

    ## Versions
    0.9 and later.

    ## References
    - vllm 0.33.0, config/vllm.py, __post_init__
    """
    section = unit.section("kv_events_config")
    publisher, events = section.get("publisher"), section.get("enable_kv_cache_events")
    off, caching = switch(unit, "enable_prefix_caching")
    if publisher is not None and publisher.value != "null" and (events is None or events.value is False):
        yield Problem(
            events or publisher,
            "a publisher is set, but enable_kv_cache_events is not on",
            advise('add "enable_kv_cache_events": true'),
        )
    elif events is not None and events.value is True and caching is False and off is not None:
        yield Problem(off, "prefix caching is off, so there are no cache events to publish", remove(off), (events,))


@rule("VL085", "sleep-endpoints-missing", tools=("vllm",), harm="ignored", severity="info", causes=("sleep-dev-mode",))
def sleep_endpoints_missing(unit: Unit, job: Job) -> Found:
    """Allow sleep-endpoints-missing.

    ## What it does
    Finds `vllm serve --enable-sleep-mode` without `VLLM_SERVER_DEV_MODE=1`.

    ## Why is this bad?
    The endpoints `/sleep` and `/wake_up` exist in that mode only; without it nothing can put the server to sleep.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Use instead
    ```bash serve.sh
    VLLM_SERVER_DEV_MODE=1 vllm serve Qwen/Qwen3-8B --enable-sleep-mode
    ```

    ## Versions
    All. Development endpoints should not be reachable by users.

    ## References
    - vllm documentation, features/sleep_mode
    """
    if is_on(unit, "enable_sleep_mode") and "VLLM_SERVER_DEV_MODE" not in unit.env and unit.program != "helm":
        setting = unit["enable_sleep_mode"]
        yield Problem(
            setting, "sleep mode is on, but /sleep needs VLLM_SERVER_DEV_MODE=1", advise("set VLLM_SERVER_DEV_MODE=1")
        )


@rule("VL086", "mamba-cache-options", tools=("vllm",), harm="crash", causes=("mamba-cache",))
def mamba_cache_options(unit: Unit, job: Job) -> Found:
    """Allow mamba-cache-options.

    ## What it does
    Checks that `--mamba-block-size` stands with prefix caching on, and `--enable-mamba-cache-stochastic-rounding` with
    `--mamba-ssm-cache-dtype float16`.

    ## Why is this bad?
    vLLM stops: "--mamba-block-size can only be set with --enable-prefix-caching", or "Stochastic rounding for Mamba cache
    requires the SSM cache to be float16".

    ## Example
    ```bash serve.sh
    vllm serve nvidia/Nemotron-H-8B --enable-mamba-cache-stochastic-rounding
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve nvidia/Nemotron-H-8B --enable-mamba-cache-stochastic-rounding --mamba-ssm-cache-dtype float16
    ```

    ## Versions
    0.11.2 and later; stochastic rounding from 0.20 on.

    ## References
    - vllm 0.33.0, config/vllm.py, validate_mamba_block_size
    """
    block, (off, caching) = unit.setting("mamba_block_size"), switch(unit, "enable_prefix_caching")
    if block is not None and caching is False and off is not None:
        yield Problem(block, "mamba-block-size needs prefix caching, which is off", remove(block), (off,))
    rounding = unit.setting("enable_mamba_cache_stochastic_rounding")
    dtype = unit.text("mamba_ssm_cache_dtype", "auto")
    if (
        rounding is not None
        and is_on(unit, rounding.name)
        and dtype is not None
        and dtype != "float16"
        and not unit.open
    ):
        yield Problem(
            rounding,
            f"stochastic rounding needs a float16 cache, and it is {dtype}",
            advise("add --mamba-ssm-cache-dtype float16"),
        )


@rule("VL087", "set-in-two-places", tools=("vllm",), harm="crash", causes=("option-twice",))
def set_in_two_places(unit: Unit, job: Job) -> Found:
    """Allow set-in-two-places.

    ## What it does
    Finds options that stand on their own and inside a configuration: the attention backend in `--attention-config`, the sizes
    of CUDA graphs in `--compilation-config`.

    ## Why is this bad?
    vLLM stops: "attention_backend and attention_config.backend are mutually exclusive".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --attention-backend FLASHINFER --attention-config '{"backend":"FLASH_ATTN"}'
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --attention-backend FLASHINFER
    ```

    ## Versions
    0.14 and later (CUDA graph sizes from 0.11.2 on).

    ## References
    - vllm 0.33.0, engine/arg_utils.py, create_engine_config
    """
    pairs = (
        ("attention_backend", "attention_config.backend"),
        ("cudagraph_capture_sizes", "compilation_config.cudagraph_capture_sizes"),
        ("max_cudagraph_capture_size", "compilation_config.max_cudagraph_capture_size"),
        ("enable_flashinfer_autotune", "kernel_config.enable_flashinfer_autotune"),
    )
    for name, inner in pairs:
        if name in unit and inner in unit:
            yield Problem(
                unit[inner],
                f"{inner} is set beside {name}, and one of them may be",
                advise(f"keep {name}"),
                (unit[name],),
            )


def _expandable(unit: Unit) -> Setting | None:
    for name in ALLOCATOR:
        setting = unit.env.get(name)
        if (
            setting is not None
            and isinstance(setting.value, str)
            and re.search(r"expandable_segments:\s*True", setting.value)
        ):
            return setting
    return None


def _without(setting: Setting) -> Fix:
    """Drop the setting, or the part of it that turns expandable segments on."""
    rest = ",".join(part for part in str(setting.value).split(",") if "expandable_segments" not in part)
    return set_value(setting, rest) if rest else remove(setting)
