"""vLLM's share of the GPU's memory, and options that give speed away."""

from advisor_mcp.linting.concepts import ENGINES
from advisor_mcp.linting.edits import advise, remove, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.rules._vl import is_on
from advisor_mcp.linting.unit import Setting, Unit


@rule("VL010", "memory-share-out-of-range", tools=("vllm",), harm="crash", causes=("gpu-mem-util-range",))
def memory_share_out_of_range(unit: Unit, job: Job) -> Found:
    """Allow memory-share-out-of-range.

    ## What it does
    Checks that `--gpu-memory-utilization` is more than 0 and at most 1.

    ## Why is this bad?
    It is a fraction, not a percentage. vLLM stops: "gpu_memory_utilization: Input should be less than or equal to 1".

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 90
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.9
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/cache.py, gpu_memory_utilization
    """
    share = unit.number("gpu_memory_utilization", 0.9)
    if share is None or 0 < share <= 1:
        return
    setting = unit["gpu_memory_utilization"]
    fix = set_value(setting, round(share / 100, 4)) if 1 < share <= 100 else set_value(setting, 0.9)
    yield Problem(
        setting, f"gpu_memory_utilization is {share:.12g}, and it is a fraction of more than 0 and at most 1", fix
    )


@rule(
    "VL011", "no-memory-left-for-graphs", tools=("vllm",), harm="oom", severity="warning", causes=("gpu-mem-util-high",)
)
def no_memory_left_for_graphs(unit: Unit, job: Job) -> Found:
    """Allow no-memory-left-for-graphs.

    ## What it does
    Finds `--gpu-memory-utilization` of 0.98 and more.

    ## Why is this bad?
    The rest of the memory holds what is not counted: the CUDA context (0.5 GB and more), NCCL's buffers, and in older
    versions the CUDA graphs. The server runs out of memory while it captures graphs, or under its first load.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.99
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.92
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, configuration/conserving_memory
    - vllm 0.33.0, config/cache.py, gpu_memory_utilization
    """
    share = unit.number("gpu_memory_utilization", 0.9)
    if share is not None and 0.98 <= share <= 1:
        setting = unit["gpu_memory_utilization"]
        message = f"gpu_memory_utilization {share:.12g} leaves {1 - share:.0%} of the GPU for the CUDA context, NCCL and graphs"
        yield Problem(setting, message, set_value(setting, 0.92))


@rule("VL012", "gpus-shared-by-servers", tools=("compose",), harm="oom", severity="warning", causes=("gpu-mem-shared",))
def gpus_shared_by_servers(unit: Unit, job: Job) -> Found:
    """Allow gpus-shared-by-servers.

    ## What it does
    Adds up `--gpu-memory-utilization` of the vLLM services of one compose file that are given the same GPU.

    ## Why is this bad?
    Each server takes its share of the whole GPU. Together they want more than there is: the second one stops with "Free
    memory on device ... is less than desired GPU memory utilization".

    ## Example
    ```yaml compose.yaml
    services:
      chat:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B"]
        deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["0"], capabilities: [gpu]}]}}}
      embed:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "BAAI/bge-m3"]
        deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["0"], capabilities: [gpu]}]}}}
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      chat:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B", "--gpu-memory-utilization", "0.7"]
        deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["0"], capabilities: [gpu]}]}}}
      embed:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "BAAI/bge-m3", "--gpu-memory-utilization", "0.2"]
        deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["0"], capabilities: [gpu]}]}}}
    ```

    ## Versions
    All. The default share is 0.9 (0.92 from 0.2x on). Services with profiles are passed over.

    ## References
    - vllm 0.33.0, config/cache.py, gpu_memory_utilization (a share of each instance's own)
    """
    services = [other for other in job.others("compose") if other.source is unit.source and "profiles" not in other]
    if unit not in services:
        return
    mine = _devices(unit)
    for engine in _kd.servers(unit, job, "vllm"):
        before = [
            e
            for other in services[: services.index(unit)]
            if mine & _devices(other)
            for e in _kd.servers(other, job, "vllm")
        ]
        shares = [found.number("gpu_memory_utilization", 0.9) for found in (*before, engine)]
        known = [share for share in shares if share is not None]
        if before and len(known) == len(shares) and sum(known) > 1 and "kv_cache_memory_bytes" not in engine:
            at: Setting | Unit = engine.setting("gpu_memory_utilization") or unit
            said = " + ".join(f"{share:.12g}" for share in known)
            message = f"servers on the same GPU take {said} = {sum(known):.12g} of its memory"
            yield Problem(at, message, advise("give each a share, 1 in all less what the CUDA contexts take"))


@rule(
    "VL013",
    "eager-mode-left-on",
    tools=("vllm", "sglang"),
    harm="slow",
    severity="info",
    causes=("enforce-eager", "cuda-graph-off"),
)
def eager_mode_left_on(unit: Unit, job: Job) -> Found:
    """Allow eager-mode-left-on.

    ## What it does
    Finds `--enforce-eager` (vLLM) and `--disable-cuda-graph` (SGLang).

    ## Why is this bad?
    Without CUDA graphs and compilation every decoding step pays for launching its kernels. That is good for finding a
    fault and for very short runs, and costs much of the speed of small batches when it is left on.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --enforce-eager
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/vllm.py, "Enforce eager set, disabling torch.compile and CUDAGraphs"
    - vllm documentation, configuration/conserving_memory
    """
    for name in ("enforce_eager", "disable_cuda_graph"):
        if name in unit and is_on(unit, name):
            yield Problem(unit[name], f"{name} turns CUDA graphs off, which makes decoding slower", remove(unit[name]))


@rule("VL014", "memory-share-not-used", tools=("vllm",), harm="ignored", severity="warning", causes=("kv-cache-bytes",))
def memory_share_not_used(unit: Unit, job: Job) -> Found:
    """Allow memory-share-not-used.

    ## What it does
    Finds `--gpu-memory-utilization` beside `--kv-cache-memory-bytes`.

    ## Why is this bad?
    With a size for the cache in bytes the share is ignored, and with it the limit that it stood for.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --gpu-memory-utilization 0.5 --kv-cache-memory-bytes 40G
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --kv-cache-memory-bytes 40G
    ```

    ## Versions
    0.10.2 and later.

    ## References
    - vllm 0.33.0, config/cache.py, kv_cache_memory_bytes
    """
    setting, other = unit.setting("gpu_memory_utilization"), unit.setting("kv_cache_memory_bytes")
    if setting is not None and other is not None and unit.since("0.10.2"):
        message = f"{setting.shown} is not used: {other.shown} sets the size of the cache"
        yield Problem(setting, message, remove(setting), (other,))


@rule("VL015", "weights-on-the-host", tools=("vllm",), harm="slow", severity="info", causes=("cpu-offload",))
def weights_on_the_host(unit: Unit, job: Job) -> Found:
    """Allow weights-on-the-host.

    ## What it does
    Finds `--cpu-offload-gb`.

    ## Why is this bad?
    The offloaded weights cross the bus in every forward pass: 10 GB over PCIe 4.0 x16 take 0.4 s a step, whatever the
    GPU. It helps a model to load at all; a smaller or quantised model is faster by far.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B --cpu-offload-gb 20
    ```

    ## Use instead
    ```bash serve.sh
    vllm serve Qwen/Qwen3-32B-FP8
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/offload.py, cpu_offload_gb
    """
    size = unit.number("cpu_offload_gb", 0)
    if size:
        yield Problem(
            unit["cpu_offload_gb"],
            f"{size:.12g} GB of the weights cross the bus in every step",
            advise("quantise, or use more GPUs"),
        )


@rule("VL016", "api-key-on-command-line", tools=ENGINES, harm="security", severity="warning", causes=("api-key-cli",))
def api_key_on_command_line(unit: Unit, job: Job) -> Found:
    """Allow api-key-on-command-line.

    ## What it does
    Finds an `--api-key` that is written out.

    ## Why is this bad?
    Every user of the machine reads it in the list of processes, it stands in the shell's history, in the pod's
    description and in this file.

    ## Example
    ```bash serve.sh
    vllm serve Qwen/Qwen3-8B --api-key sk-3b1f2a
    ```

    ## Use instead
    ```bash serve.sh
    export VLLM_API_KEY="$(cat /run/secrets/api-key)"
    vllm serve Qwen/Qwen3-8B
    ```

    ## Versions
    All. `VLLM_API_KEY` is vLLM's variable, `LLAMA_API_KEY` is llama-server's, which also reads `--api-key-file`.

    ## References
    - vllm 0.33.0, envs.py, VLLM_API_KEY
    - llama.cpp common/arg.cpp (llama-cpp-python 0.3.36), --api-key-file
    """
    setting = unit.setting("api_key")
    if (
        setting is not None
        and isinstance(setting.value, str)
        and setting.value.strip("\"'")
        and not setting.value.startswith("$")
    ):
        yield Problem(
            setting,
            "the API key stands on the command line, where every process list shows it",
            advise("take it from the environment"),
        )


def _devices(unit: Unit) -> set[str]:
    """The GPUs that a service is given by number."""
    found = unit.items("deploy.resources.reservations.devices.0.device_ids") or []
    return {str(item) for item in found}
