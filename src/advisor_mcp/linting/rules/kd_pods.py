"""Pods of serving engines: probes, names of services, volumes, shared memory."""

from __future__ import annotations

from advisor_mcp.linting.edits import Edit, Fix, advise
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.reading_yaml import read_yaml
from advisor_mcp.linting.rule import Found, Problem, Skipped, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.rules._kd import GPU_ENGINES
from advisor_mcp.linting.rules.kd_network import services_of
from advisor_mcp.linting.tree import IsTemplate, Malformed, Mapping, Scalar, Sequence, at, plain
from advisor_mcp.linting.unit import Unit, as_number, as_truth

START_SECONDS = 60  # imports, compilation and graph capture before the first answer, whatever the model
LOAD_BYTES_PER_SECOND = 1e9  # a fast network disk; a first download is slower


@rule(
    "KD020",
    "probe-kills-loading-server",
    tools=("k8s",),
    harm="crash",
    severity="warning",
    causes=("k8s-probe", "probe-load"),
)
def probe_kills_loading_server(unit: Unit, job: Job) -> Found:
    """Allow probe-kills-loading-server.

    ## What it does
    Adds up how long a server may take to start before its startup probe (or, without one, its liveness probe) has failed
    often enough to be restarted: `initialDelaySeconds + periodSeconds x failureThreshold`. Compares it with a minute plus
    the time to read the model's weights at 1 GB/s, where the model is known.

    ## Why is this bad?
    `/health` answers only after the weights are loaded and the graphs captured. The kubelet kills the server before, starts
    it again, and kills it again: CrashLoopBackOff with "KeyboardInterrupt: terminated" in the log and no other error.

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
        resources: {limits: {nvidia.com/gpu: 1}}
        livenessProbe:
          httpGet: {path: /health, port: 8000}
          periodSeconds: 10
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
        startupProbe:
          httpGet: {path: /health, port: 8000}
          periodSeconds: 10
          failureThreshold: 120
        livenessProbe:
          httpGet: {path: /health, port: 8000}
          periodSeconds: 10
    ```

    ## Versions
    All.

    ## References
    - vllm documentation, deployment/k8s, troubleshooting
    - kserve/kserve#5062
    - kubernetes-sigs/gateway-api-inference-extension#558
    """
    engine = next(_kd.servers(unit, job, *GPU_ENGINES), None)
    name = "startupProbe" if "startupProbe" in unit else "livenessProbe"
    if engine is None or unit.setting(f"{name}.httpGet", f"{name}.tcpSocket", f"{name}.grpc") is None:
        return
    probe = at(unit.tree, name)
    delay = _kd.number_at(probe, "initialDelaySeconds", default=0)
    period = _kd.number_at(probe, "periodSeconds", default=10)
    failures = _kd.number_at(probe, "failureThreshold", default=3)
    if delay is None or period is None or failures is None:
        return
    allowed = delay + period * failures
    model = job.model(engine)
    held = model.memory(1) if model is not None else None
    weights = held[0] if held is not None else None
    needed = START_SECONDS + (weights or 0) / LOAD_BYTES_PER_SECOND
    if allowed < needed:
        said = "" if not weights else f" and has {weights / 1e9:.0f} GB of weights to read"
        message = f"the {name} gives the server {allowed:.12g} s to start, which takes a minute at least{said}"
        fix = advise("add a startupProbe with failureThreshold x periodSeconds of 10 minutes or more")
        yield Problem(unit[name], message, fix)
    elif model is None:
        yield Skipped("the model")


@rule("KD021", "service-named-vllm", tools=("k8s",), harm="crash", causes=("k8s-vllm-port",))
def service_named_vllm(unit: Unit, job: Job) -> Found:
    """Allow service-named-vllm.

    ## What it does
    Finds a Service called `vllm` beside a pod that runs vLLM.

    ## Why is this bad?
    Kubernetes tells every pod of the namespace about a Service by environment variables: for one called `vllm` that is
    `VLLM_PORT=tcp://10.0.0.1:8000`. vLLM reads `VLLM_PORT` as its own setting and stops: "VLLM_PORT 'tcp://...' appears
    to be a URI".

    ## Example
    ```yaml vllm.yaml
    apiVersion: v1
    kind: Service
    metadata: {name: vllm}
    spec: {selector: {app: vllm}, ports: [{port: 8000}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: server, labels: {app: vllm}}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B"]
        resources: {limits: {nvidia.com/gpu: 1}}
    ```

    ## Use instead
    ```yaml vllm.yaml
    apiVersion: v1
    kind: Service
    metadata: {name: vllm-server}
    spec: {selector: {app: vllm}, ports: [{port: 8000}]}
    ---
    apiVersion: v1
    kind: Pod
    metadata: {name: server, labels: {app: vllm}}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B"]
        resources: {limits: {nvidia.com/gpu: 1}}
    ```

    ## Versions
    All. `enableServiceLinks: false` in the pod, or a `VLLM_PORT` of its own, avoids it too.

    ## References
    - vllm 0.33.0, envs.py, get_vllm_port
    - vllm documentation, configuration/env_vars
    - vllm-project/vllm#34199
    - vllm-project/vllm#18209
    """
    links = plain(at(unit.pod, "enableServiceLinks"))
    if (
        not any(_kd.servers(unit, job, "vllm"))
        or "VLLM_PORT" in unit.env
        or (links is not None and as_truth(links) is not True)
    ):
        return
    for service in services_of(unit):
        name = at(service, "metadata", "name")
        if isinstance(name, Scalar) and name.value == "vllm":
            message = "the Service called vllm sets VLLM_PORT=tcp://... in the pod, which vLLM reads as its own setting"
            fix = Fix("call it vllm-server", (Edit(name.source, name.start, name.end, "vllm-server"),))
            yield Problem(name.span, message, fix)


@rule("KD022", "volume-for-one-node", tools=("k8s", "helm"), harm="hang", severity="warning", causes=("pvc-replicas",))
def volume_for_one_node(unit: Unit, job: Job) -> Found:
    """Allow volume-for-one-node.

    ## What it does
    Finds several replicas that mount one claim of access mode ReadWriteOnce.

    ## Why is this bad?
    Such a volume can be attached to one node: replicas on other nodes stay in ContainerCreating with "Multi-Attach error
    for volume".

    ## Example
    ```yaml deploy.yaml
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: models}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Gi}}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: server}
    spec:
      replicas: 3
      selector: {matchLabels: {app: server}}
      template:
        metadata: {labels: {app: server}}
        spec:
          containers:
          - name: server
            image: vllm/vllm-openai:v0.12.0
            args: ["--model", "/models/qwen"]
            resources: {limits: {nvidia.com/gpu: 1}}
            volumeMounts: [{name: models, mountPath: /models}]
          volumes: [{name: models, persistentVolumeClaim: {claimName: models}}]
    ```

    ## Use instead
    ```yaml deploy.yaml
    apiVersion: v1
    kind: PersistentVolumeClaim
    metadata: {name: models}
    spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 100Gi}}}
    ---
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: server}
    spec:
      replicas: 3
      selector: {matchLabels: {app: server}}
      template:
        metadata: {labels: {app: server}}
        spec:
          containers:
          - name: server
            image: vllm/vllm-openai:v0.12.0
            args: ["--model", "/models/qwen"]
            resources: {limits: {nvidia.com/gpu: 1}}
            volumeMounts: [{name: models, mountPath: /models}]
          volumes: [{name: models, persistentVolumeClaim: {claimName: models}}]
    ```

    ## Versions
    All. ReadOnlyMany does for models that are already there.

    ## References
    - Kubernetes documentation, concepts/storage/persistent-volumes, access modes
    - vllm-project/production-stack helm/values.yaml, pvcAccessMode
    """
    if unit.tool == "helm":
        replicas, modes = unit.number("replicaCount", 1), unit.items("pvcAccessMode")
        if replicas is not None and replicas > 1 and modes == ["ReadWriteOnce"]:
            message = f"{replicas:.12g} replicas mount one volume of access mode ReadWriteOnce"
            yield Problem(
                unit["pvcAccessMode"], message, advise("use ReadWriteMany or ReadOnlyMany"), (unit["replicaCount"],)
            )
        return
    replicas = as_number(plain(at(unit.document, "spec", "replicas")))
    if (
        replicas is None
        or replicas < 2
        or _kd.kind_of(unit) == "StatefulSet"
        or "PersistentVolumeClaim" not in unit.source.text
    ):
        return
    for _, name in _kd.mounts(unit):
        claim = _kd.text_at(_kd.volume(unit, name), "persistentVolumeClaim", "claimName")
        modes_node = at(_claims(unit).get(claim or ""), "spec", "accessModes")
        if plain(modes_node) == ["ReadWriteOnce"] and isinstance(modes_node, Sequence):
            message = f"{replicas:.12g} replicas mount the claim {claim}, whose access mode is ReadWriteOnce"
            yield Problem(modes_node.span, message, advise("use ReadWriteMany or ReadOnlyMany"))


@rule("KD029", "shared-memory-over-limit", tools=("k8s",), harm="oom", severity="warning", causes=("shm-memory-limit",))
def shared_memory_over_limit(unit: Unit, job: Job) -> Found:
    """Allow shared-memory-over-limit.

    ## What it does
    Compares the `sizeLimit` of the memory volume at `/dev/shm` with the container's memory limit.

    ## Why is this bad?
    What stands in a memory volume counts as the container's memory. One as large as the limit lets shared memory alone
    get the container killed.

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B", "--tensor-parallel-size", "2"]
        resources: {limits: {nvidia.com/gpu: 2, memory: 16Gi}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 64Gi}}]
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
        args: ["--model", "Qwen/Qwen3-8B", "--tensor-parallel-size", "2"]
        resources: {limits: {nvidia.com/gpu: 2, memory: 128Gi}}
        volumeMounts: [{name: shm, mountPath: /dev/shm}]
      volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 64Gi}}]
    ```

    ## Versions
    All.

    ## References
    - Kubernetes documentation, concepts/storage/volumes, emptyDir
    """
    limit = unit.setting("resources.limits.memory")
    most = _kd.bytes_of(limit.value) if limit is not None else None
    for path, name in _kd.mounts(unit):
        size = _kd.bytes_of(plain(at(_kd.volume(unit, name), "emptyDir", "sizeLimit")))
        if path == "/dev/shm" and limit is not None and most is not None and size is not None and size >= most:
            shown = _kd.text_at(_kd.volume(unit, name), "emptyDir", "sizeLimit")
            yield Problem(
                limit,
                f"the memory limit is {limit.value}, and /dev/shm may take {shown} of it",
                advise("raise the limit"),
            )


def _claims(unit: Unit) -> dict[str, Mapping]:
    """The claims of the same file by name."""
    try:
        documents = read_yaml(unit.source)
    except (Malformed, IsTemplate):
        return {}
    claims = (d for d in documents if isinstance(d, Mapping) and plain(d.get("kind")) == "PersistentVolumeClaim")
    return {_kd.text_at(claim, "metadata", "name") or "": claim for claim in claims}
