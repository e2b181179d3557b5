"""How a server in a container is reached: its address, its port, and who else has that port."""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor_mcp.linting.edits import advise, set_value
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.reading_yaml import read_yaml
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.rules._kd import LOOPBACK
from advisor_mcp.linting.source import Span
from advisor_mcp.linting.tree import IsTemplate, Malformed, Mapping, Scalar, Sequence, at, plain
from advisor_mcp.linting.unit import Setting, Unit, as_number, as_whole

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


@rule(
    "KD010", "loopback-in-container", tools=("docker", "compose", "k8s"), harm="crash", causes=("container-localhost",)
)
def loopback_in_container(unit: Unit, job: Job) -> Found:
    """Allow loopback-in-container.

    ## What it does
    Finds a server in a container of its own network that listens on 127.0.0.1: because `--host` says so, or because that
    is SGLang's default.

    ## Why is this bad?
    The loopback address of a container is reached from inside it only: the published port, the Service and the probes of
    the kubelet get "connection refused".

    ## Example
    ```yaml compose.yaml
    services:
      sglang:
        image: lmsysorg/sglang:latest
        command: python3 -m sglang.launch_server --model-path Qwen/Qwen3-8B --host 127.0.0.1 --port 30000
        ports: ["30000:30000"]
        gpus: all
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      sglang:
        image: lmsysorg/sglang:latest
        command: python3 -m sglang.launch_server --model-path Qwen/Qwen3-8B --host 0.0.0.0 --port 30000
        ports: ["30000:30000"]
        gpus: all
    ```

    ## Versions
    All. A pod with several containers is passed over: a proxy beside the server may be what is reached.

    ## References
    - sglang 0.5.23, server_args.py, host
    - SGLang documentation, get_started/install, docker
    """
    if _shares_network(unit):
        return
    for engine in _kd.servers(unit, job):
        host = engine.setting("host")
        if host is not None and host.known and str(host.value) in LOOPBACK:
            message = f"{host.shown} is reached from inside the container only"
            yield Problem(host, message, set_value(host, "0.0.0.0"))
        elif engine.tool == "sglang" and engine.absent("host") and _is_published(unit):
            message = "SGLang listens on 127.0.0.1 by default, which is reached from inside the container only"
            yield Problem(engine, message, advise("add --host 0.0.0.0"), severity="warning")


@rule("KD011", "probe-of-another-port", tools=("k8s",), harm="crash", causes=("port-mismatch", "probe-port"))
def probe_of_another_port(unit: Unit, job: Job) -> Found:
    """Allow probe-of-another-port.

    ## What it does
    Compares the port of each HTTP or TCP probe with the port on which the container's server listens.

    ## Why is this bad?
    The probe never succeeds: the pod does not become ready, or the kubelet restarts it again and again.

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B", "--port", "8080"]
        resources: {limits: {nvidia.com/gpu: 1}}
        readinessProbe: {httpGet: {path: /health, port: 8000}}
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
        args: ["--model", "Qwen/Qwen3-8B", "--port", "8080"]
        resources: {limits: {nvidia.com/gpu: 1}}
        readinessProbe: {httpGet: {path: /health, port: 8080}}
    ```

    ## Versions
    All. The default ports are 8000 for vLLM and trtllm-serve, 30000 for SGLang and 8080 for llama-server.

    ## References
    - vllm documentation, deployment/k8s
    - Kubernetes documentation, tasks/configure-pod-container/configure-liveness-readiness-startup-probes
    """
    engine = _only_server(unit, job)
    port = _kd.port_of(engine) if engine is not None else None
    if port is None:
        return
    for probe in PROBES:
        setting = unit.setting(f"{probe}.httpGet.port", f"{probe}.tcpSocket.port")
        asked = _resolved(unit, setting) if setting is not None else None
        if setting is not None and asked is not None and asked != port:
            fix = (
                set_value(setting, port)
                if as_number(setting.value) is not None
                else advise(f"give the port {port} that name")
            )
            yield Problem(setting, f"the {probe} asks port {asked}, but the server listens on {port}", fix)


@rule(
    "KD012",
    "port-nobody-listens-on",
    tools=("compose", "k8s"),
    harm="crash",
    severity="warning",
    causes=("port-mismatch",),
)
def port_nobody_listens_on(unit: Unit, job: Job) -> Found:
    """Allow port-nobody-listens-on.

    ## What it does
    Compares the container ports that a compose service publishes, or the `targetPort` of the Service that selects a pod,
    with the port on which the server in it listens.

    ## Why is this bad?
    Clients get "connection refused": the port leads to the container, and nothing in it listens there.

    ## Example
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B", "--port", "8001"]
        ports: ["8000:8000"]
        gpus: all
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B", "--port", "8001"]
        ports: ["8000:8001"]
        gpus: all
    ```

    ## Versions
    All.

    ## References
    - Docker documentation, reference/compose-file/services, ports
    - Kubernetes documentation, concepts/services-networking/service
    """
    engine = _only_server(unit, job)
    port = _kd.port_of(engine) if engine is not None else None
    if engine is None or port is None or "uds" in engine:
        return
    places = list(_published(unit) if unit.tool == "compose" else _service_ports(unit))
    if places and all(number is not None and number != port for _, number in places):
        place, number = places[0]
        yield Problem(
            place,
            f"port {number} of the container is published, but the server listens on {port}",
            advise(f"use {port}"),
        )


@rule("KD013", "host-port-taken-twice", tools=("compose",), harm="crash", causes=("port-clash",))
def host_port_taken_twice(unit: Unit, job: Job) -> Found:
    """Allow host-port-taken-twice.

    ## What it does
    Finds services of one compose file that publish the same port of the host, or that share the host's network and
    listen on the same port.

    ## Why is this bad?
    The second one does not start: "port is already allocated", or "address already in use".

    ## Example
    ```yaml compose.yaml
    services:
      chat:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B"]
        network_mode: host
        ipc: host
        gpus: all
      embed:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "BAAI/bge-m3"]
        network_mode: host
        ipc: host
        gpus: all
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      chat:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B"]
        network_mode: host
        ipc: host
        gpus: all
      embed:
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "BAAI/bge-m3", "--port", "8001"]
        network_mode: host
        ipc: host
        gpus: all
    ```

    ## Versions
    All. Services with profiles are passed over: they may never run together.

    ## References
    - vllm-project/vllm#7514
    - Docker documentation, reference/compose-file/services, ports
    """
    services = [other for other in job.others("compose") if other.source is unit.source and "profiles" not in other]
    if unit not in services:
        return
    earlier = {port for other in services[: services.index(unit)] for _, port in _taken(other, job)}
    for place, port in _taken(unit, job):
        if port in earlier:
            yield Problem(
                place,
                f"port {port} of the host is taken by another service of this file",
                advise("give it another port"),
            )


def _shares_network(unit: Unit) -> bool:
    if unit.tool == "k8s":
        containers = at(unit.pod, "containers")
        several = isinstance(containers, Sequence) and len(containers.items) > 1
        return several or plain(at(unit.pod, "hostNetwork")) not in (None, False)
    return unit.text("network_mode", unit.text("network", "")) not in ("", "bridge", "default") and (
        unit.tool == "compose" or unit.text("network") in ("host", None)
    )


def _is_published(unit: Unit) -> bool:
    return unit.tool == "k8s" or any(
        name.split(".")[0] in ("ports", "p", "publish", "expose") for name in unit.settings
    )


def _only_server(unit: Unit, job: Job) -> Unit | None:
    """The only server of a container, where nothing can be hidden in its command line."""
    found = list(_kd.servers(unit, job))
    return found[0] if len(found) == 1 and not found[0].open and not found[0].conditional else None


def _resolved(unit: Unit, setting: Setting) -> int | None:
    """The number of a port, by its name where it has one."""
    number = as_number(setting.value)
    if number is not None:
        return int(number)
    for name, found in unit.settings.items():
        if re.fullmatch(r"ports\.\d+\.name", name) and found.known and found.value == setting.value:
            number = unit.number(name.removesuffix("name") + "containerPort")
    return int(number) if number is not None else None


def _published(unit: Unit) -> Iterator[tuple[Setting | Span, int | None]]:
    """The container ports that a compose service publishes."""
    ports = at(unit.tree, "ports")
    for index, item in enumerate(ports.items if isinstance(ports, Sequence) else []):
        if isinstance(item, Mapping):
            setting = unit.setting(f"ports.{index}.target")
            yield (setting or item.span), as_whole(plain(item.get("target")))
        elif isinstance(item, Scalar):
            yield item.span, as_whole(str(item.text).rpartition(":")[2].partition("/")[0])


def _taken(unit: Unit, job: Job) -> Iterator[tuple[Setting | Span | Unit, int]]:
    """The ports of the host that a service takes."""
    if unit.text("network_mode", "") == "host":
        for engine in _kd.servers(unit, job):
            port = _kd.port_of(engine)
            if port is not None and not engine.open:
                yield engine.setting("port") or unit, port
        return
    ports = at(unit.tree, "ports")
    for item in ports.items if isinstance(ports, Sequence) else []:
        text = (
            str(plain(item.get("published")))
            if isinstance(item, Mapping)
            else item.text
            if isinstance(item, Scalar)
            else ""
        )
        parts = text.partition("/")[0].split(":")
        whole = as_whole(parts[0] if isinstance(item, Mapping) else parts[-2] if len(parts) > 1 else None)
        if whole is not None and len(parts) < 3:
            yield item.span, whole


def _service_ports(unit: Unit) -> Iterator[tuple[Setting | Span, int | None]]:
    """The ports in this file's Services that lead to a pod with this one container."""
    containers = at(unit.pod, "containers")
    if "Service" not in unit.source.text or (isinstance(containers, Sequence) and len(containers.items) > 1):
        return
    labels = plain(at(unit.document, "spec", "template", "metadata", "labels")) or plain(
        at(unit.document, "metadata", "labels")
    )
    for service in services_of(unit):
        selector, ports = plain(at(service, "spec", "selector")), at(service, "spec", "ports")
        if not isinstance(selector, dict) or not isinstance(labels, dict) or not selector.items() <= labels.items():
            continue
        for item in ports.items if isinstance(ports, Sequence) else []:
            target = at(item, "targetPort") or at(item, "port")
            if isinstance(target, Scalar):
                yield target.span, as_whole(target.value)


def services_of(unit: Unit) -> list[Mapping]:
    """The Services that stand in the same file as a container."""
    try:
        documents = read_yaml(unit.source)
    except (Malformed, IsTemplate):
        return []
    return [found for found in documents if isinstance(found, Mapping) and plain(found.get("kind")) == "Service"]
