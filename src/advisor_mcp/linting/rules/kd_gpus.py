"""GPUs of containers: as many as the server in it needs, and shared memory for its processes."""

from collections.abc import Iterator

from advisor_mcp.linting.edits import Fix, advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.rules._kd import CONTAINERS, GPU_ENGINES
from advisor_mcp.linting.tree import Mapping, at, plain
from advisor_mcp.linting.unit import Setting, Unit, as_number, as_truth

SMALL_SHARED_MEMORY = 2**30


@rule("KD001", "more-ranks-than-gpus-given", tools=CONTAINERS, harm="crash", causes=("k8s-gpu-limit", "ranks-gt-gpus"))
def more_ranks_than_gpus_given(unit: Unit, job: Job) -> Found:
    """Allow more-ranks-than-gpus-given.

    ## What it does
    Compares the GPUs that a container is given (the limit of a pod, the reservation of a compose service, `--gpus` of
    `docker run`, `requestGPU` of the production stack) with tensor x pipeline x local data parallel size of its server.

    ## Why is this bad?
    Each rank needs a GPU of its own. vLLM stops: "World size (4) is larger than the number of available GPUs (2) in this
    node"; others hang while ranks wait for one that never starts.

    ## Example
    ```yaml deploy.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "meta-llama/Llama-3.1-70B-Instruct", "--tensor-parallel-size", "4"]
        resources: {limits: {nvidia.com/gpu: 2}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes: [{name: shm, emptyDir: {medium: Memory}}]
    ```

    ## Use instead
    ```yaml deploy.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "meta-llama/Llama-3.1-70B-Instruct", "--tensor-parallel-size", "4"]
        resources: {limits: {nvidia.com/gpu: 4}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes: [{name: shm, emptyDir: {medium: Memory}}]
    ```

    ## Versions
    All. Servers that span several pods or machines (Ray, LeaderWorkerSet, `--nnodes`) are passed over.

    ## References
    - vllm 0.33.0, config/parallel.py, ParallelConfig.__post_init__
    - vllm-project/vllm#30061
    - vllm-project/vllm#5450
    """
    for setting, given, wanted, engine in _compared(unit, job):
        if wanted > given:
            message = f"the container is given {_gpus(given)}, but its server starts {wanted} ranks, one a GPU"
            fix = _more(unit, setting, wanted)
            yield Problem(setting, message, fix, _sizes(engine))


@rule("KD002", "gpus-left-idle", tools=CONTAINERS, harm="unintended", severity="info", causes=("k8s-gpu-idle",))
def idle_gpus(unit: Unit, job: Job) -> Found:
    """Allow gpus-left-idle.

    ## What it does
    Finds a container that is given more GPUs than its server uses.

    ## Why is this bad?
    vLLM and SGLang use one GPU unless a parallel size says more: the other GPUs are reserved and idle.

    ## Example
    ```bash run.sh
    docker run --gpus 4 --ipc=host vllm/vllm-openai:v0.12.0 --model Qwen/Qwen3-32B --tensor-parallel-size 2
    ```

    ## Use instead
    ```bash run.sh
    docker run --gpus 4 --ipc=host vllm/vllm-openai:v0.12.0 --model Qwen/Qwen3-32B --tensor-parallel-size 4
    ```

    ## Versions
    All.

    ## References
    - vllm 0.33.0, config/parallel.py
    """
    for setting, given, wanted, engine in _compared(unit, job):
        if wanted < given and not engine.open and "CUDA_VISIBLE_DEVICES" not in engine.env:
            message = f"the container is given {_gpus(given)}, of which its server uses {wanted}"
            yield Problem(
                setting,
                message,
                advise(f"raise the parallel sizes to {given} GPUs or ask for {wanted}"),
                _sizes(engine),
            )


@rule(
    "KD003", "small-shared-memory", tools=("docker", "compose", "k8s"), harm="crash", causes=("k8s-shm", "compose-shm")
)
def small_shared_memory(unit: Unit, job: Job) -> Found:
    """Allow small-shared-memory.

    ## What it does
    Finds a server of several GPUs in a container whose `/dev/shm` is left at 64 MB (or set below 1 GiB): no memory
    volume mounted there, no `ipc: host`, no `shm_size`.

    ## Why is this bad?
    The processes of a tensor-parallel server exchange data through shared memory, NCCL's and the engine's own. They die
    at start or under load with a bus error or NCCL's "unable to allocate shared memory".

    ## Example
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "mistralai/Mixtral-8x7B-Instruct-v0.1", "--tensor-parallel-size", "2"]
        gpus: all
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "mistralai/Mixtral-8x7B-Instruct-v0.1", "--tensor-parallel-size", "2"]
        gpus: all
        ipc: host
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, deployment/docker and deployment/k8s
    - vllm-project/vllm#878
    - vllm-project/vllm#1710
    """
    if unit.open or not any((_kd.gpus_wanted(engine) or 1) > 1 for engine in _kd.servers(unit, job, *GPU_ENGINES)):
        return
    place, size = _shared_memory(unit)
    if size is not None and size < SMALL_SHARED_MEMORY:
        said = "the container's default of 64 MB" if place is None else place.shown
        message = f"/dev/shm has {said}, which is too small for a server of several GPUs"
        yield Problem(place or unit, message, _shared_fix(unit, place))


@rule("KD004", "gpu-request-without-limit", tools=("k8s",), harm="crash", causes=("k8s-gpu-requests",))
def gpu_request_without_limit(unit: Unit, job: Job) -> Found:
    """Allow gpu-request-without-limit.

    ## What it does
    Finds GPUs that stand under `requests` only, or with another number than under `limits`, and parts of a GPU.

    ## Why is this bad?
    GPUs are extended resources: they cannot be overcommitted, the limit has to be set, a request has to equal it, and
    the number has to be whole. The API server rejects the pod: "Limit must be set for non overcommitable resources".

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B"]
        resources: {requests: {nvidia.com/gpu: 1}}
    ```

    ## Use instead
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B"]
        resources: {limits: {nvidia.com/gpu: 1}}
    ```

    ## Versions
    All versions of Kubernetes.

    ## References
    - Kubernetes documentation, tasks/manage-gpus/scheduling-gpus
    """
    for vendor in ("nvidia.com/gpu", "amd.com/gpu"):
        asked, limit = unit.setting(f"resources.requests.{vendor}"), unit.setting(f"resources.limits.{vendor}")
        for setting in (asked, limit):
            count = as_number(setting.value) if setting is not None else None
            if setting is not None and count is not None and count != int(count):
                yield Problem(
                    setting,
                    f"{setting.shown} is no whole number of GPUs",
                    advise("use time-slicing or MIG to share a GPU"),
                )
        if asked is not None and limit is None and "resources.limits" not in unit:
            yield Problem(
                asked,
                f"{vendor} stands under requests and has no limit, which it needs",
                advise("move it under limits"),
            )
        elif asked is not None and limit is None:
            yield Problem(
                asked, f"{vendor} stands under requests, but not under limits", advise("set it under limits too")
            )
        elif asked is not None and limit is not None and _differ(asked, limit):
            message = f"{asked.shown} under requests, {limit.at.text.strip()} under limits: they have to be equal"
            yield Problem(asked, message, set_value(asked, plain(limit.node)), (limit,))


@rule(
    "KD005",
    "no-gpu-given",
    tools=("docker", "compose", "k8s"),
    harm="crash",
    severity="warning",
    causes=("no-gpu", "compose-gpu"),
)
def no_gpu_given(unit: Unit, job: Job) -> Found:
    """Allow no-gpu-given.

    ## What it does
    Finds a container with a GPU server that asks for no GPU: no limit in a pod, no device reservation, `gpus` or
    `runtime: nvidia` in a compose service, no `--gpus` on `docker run`.

    ## Why is this bad?
    The container sees no GPU: "Failed to infer device type" or "Found no NVIDIA driver on your system". It works only where
    the machine's default container runtime was changed to NVIDIA's.

    ## Example
    ```bash run.sh
    docker run --ipc=host -p 8000:8000 vllm/vllm-openai:v0.12.0 --model Qwen/Qwen3-8B
    ```

    ## Use instead
    ```bash run.sh
    docker run --gpus all --ipc=host -p 8000:8000 vllm/vllm-openai:v0.12.0 --model Qwen/Qwen3-8B
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, deployment/docker
    - neuralmagic/nm-vllm#404
    - Docker documentation, compose/how-tos/gpu-support
    """
    engine = next(_kd.servers(unit, job, *GPU_ENGINES), None)
    if engine is None or unit.open or _has_devices(unit) or _is_for_cpu(unit, engine):
        return
    what = {
        "docker": "docker run has no --gpus",
        "compose": "the service reserves no GPU",
        "k8s": "the container asks for no GPU",
    }
    how = {
        "docker": "add --gpus all",
        "compose": "add deploy.resources.reservations.devices with driver: nvidia, count: all, capabilities: [gpu]",
        "k8s": "add resources.limits with nvidia.com/gpu",
    }
    yield Problem(unit, f"{what[unit.tool]}, but {engine.tool} runs in it", advise(how[unit.tool]))


@rule("KD006", "incomplete-gpu-reservation", tools=("compose",), harm="crash", causes=("compose-device",))
def incomplete_gpu_reservation(unit: Unit, job: Job) -> Found:
    """Allow incomplete-gpu-reservation.

    ## What it does
    Checks each entry of `deploy.resources.reservations.devices`: it needs `capabilities`, and has either `count` or
    `device_ids`.

    ## Why is this bad?
    Compose rejects the file: "capabilities is required", or "count and device_ids are exclusive".

    ## Example
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: --model Qwen/Qwen3-8B
        deploy:
          resources:
            reservations:
              devices:
                - driver: nvidia
                  count: 1
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: --model Qwen/Qwen3-8B
        deploy:
          resources:
            reservations:
              devices:
                - driver: nvidia
                  count: 1
                  capabilities: [gpu]
    ```

    ## Versions
    All versions of the Compose specification.

    ## References
    - Docker documentation, reference/compose-file/deploy, devices
    """
    start = "deploy.resources.reservations.devices"
    for index in range(16):
        one = f"{start}.{index}"
        entry = unit.section(one)
        if not entry:
            return
        if "capabilities" not in entry:
            first = next(iter(entry.values()))
            yield Problem(
                first, "the device reservation has no capabilities, which it needs", advise("add capabilities: [gpu]")
            )
        if "count" in entry and "device_ids" in entry:
            message = "count and device_ids stand in the same device reservation, which takes one of them"
            yield Problem(entry["count"], message, advise("keep device_ids and remove count"), (entry["device_ids"],))


def _compared(unit: Unit, job: Job) -> Iterator[tuple[Setting, int, int, Unit]]:
    """For each server of a container: the setting that gives GPUs, how many, and how many it wants."""
    setting, given = _kd.gpus_given(unit)
    if setting is None or given is None or _kd.is_a_group(unit):
        return
    for engine in _kd.servers(unit, job, *GPU_ENGINES):
        wanted = _kd.gpus_wanted(engine)
        if wanted is not None:
            yield setting, given, wanted, engine


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count != 1)}"


def _sizes(engine: Unit) -> tuple[Setting, ...]:
    found = (engine.named(concept) for concept in ("tensor_parallel", "pipeline_parallel", "data_parallel"))
    return tuple(setting for setting in found if setting is not None)


def _more(unit: Unit, setting: Setting, wanted: int) -> Fix:
    if unit.tool in ("k8s", "helm") or setting.name.endswith(".count"):
        return set_value(setting, str(wanted) if '"' in setting.at.text else wanted)
    if unit.tool == "docker" and str(setting.value).isdigit():
        return set_value(setting, wanted)
    return advise(f"give it {wanted} GPUs, or lower the parallel sizes")


def _differ(left: Setting, right: Setting) -> bool:
    one, other = as_number(left.value), as_number(right.value)
    return one is not None and other is not None and one != other


def _shared_memory(unit: Unit) -> tuple[Setting | None, int | None]:
    """The setting that sizes /dev/shm, if any, and its bytes; None bytes for enough and for what is not known."""
    if unit.tool == "k8s":
        return _pod_shared_memory(unit)
    if (
        unit.text("ipc", "") not in ("", "private", "shareable")
        or _mounts_shm(unit)
        or unit.truth("privileged") is None
    ):
        return None, None
    setting = unit.setting("shm_size")
    return setting, _kd.bytes_of(setting.value) if setting is not None else 64 * 2**20


def _pod_shared_memory(unit: Unit) -> tuple[Setting | None, int | None]:
    host = plain(at(unit.pod, "hostIPC"))
    if host is not None and as_truth(host) is not False:
        return None, None
    for path, name in _kd.mounts(unit):
        if path in ("/dev/shm", "/dev"):
            found = _kd.volume(unit, name)
            limit = plain(at(found, "emptyDir", "sizeLimit"))
            return None, _kd.bytes_of(limit) if isinstance(found, Mapping) and isinstance(limit, str) else None
    return None, 64 * 2**20


def _mounts_shm(unit: Unit) -> bool:
    texts = [
        str(s.value)
        for name, s in unit.settings.items()
        if name.split(".")[0] in ("volumes", "tmpfs", "volume", "v", "mount")
    ]
    return any("/dev/shm" in text for text in texts)


def _shared_fix(unit: Unit, place: Setting | None) -> Fix:
    if unit.tool == "k8s":
        return advise("mount an emptyDir with medium: Memory at /dev/shm")
    if place is not None:
        return set_value(place, "16g")
    return advise("add ipc: host or shm_size: 16g" if unit.tool == "compose" else "add --ipc=host or --shm-size 16g")


def _has_devices(unit: Unit) -> bool:
    if unit.tool == "docker":
        return unit.setting("gpus", "runtime", "device", "privileged") is not None
    if unit.tool == "compose":
        names = (
            "deploy.resources.reservations.devices",
            "deploy.resources.reservations.generic_resources",
            "gpus",
            "runtime",
            "devices",
        )
        return unit.setting(*names, "privileged", "extends", "<<", "deploy.<<") is not None
    plainly = ("cpu", "memory", "ephemeral-storage")
    asked = {
        name.split(".", 2)[2] for name in unit.settings if name.startswith(("resources.limits.", "resources.requests."))
    }
    special = any(name not in plainly and not name.startswith("hugepages") for name in asked)
    group = kinds_with_templates(unit)
    return special or "resources.claims" in unit or "securityContext.privileged" in unit or group


def kinds_with_templates(unit: Unit) -> bool:
    """Whether the object is of a kind whose controller may add the devices."""
    return _kd.kind_of(unit) not in ("", "Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet")


def _is_for_cpu(unit: Unit, engine: Unit) -> bool:
    image = unit.entry_point.lower()
    other = any(mark in image for mark in ("cpu", "tpu", "xpu", "neuron", "gaudi", "habana", "ascend", "rocm"))
    return other or engine.text("device", "cuda") != "cuda" or not image
