"""Commands, arguments and variables of containers, as Kubernetes and Compose pass them on."""

from __future__ import annotations

import json
import re

from advisor_mcp.linting.edits import Edit, Fix, advise, quote, rename
from advisor_mcp.linting.job import Job
from advisor_mcp.linting.rule import Found, Problem, rule
from advisor_mcp.linting.rules import _kd
from advisor_mcp.linting.tree import Scalar, Sequence, at
from advisor_mcp.linting.unit import Unit

OWN_ENTRY_POINT = re.compile(r"(^|/)vllm/vllm-openai(:|@|$)")
PROGRAMS = ("vllm", "python", "python3", "bash", "sh", "/bin/bash", "/bin/sh", "/usr/bin/python3")


@rule("KD023", "environment-value-no-string", tools=("k8s", "compose"), harm="crash", causes=("k8s-env-string",))
def environment_value_no_string(unit: Unit, job: Job) -> Found:
    """Allow environment-value-no-string.

    ## What it does
    Finds environment variables whose YAML value is a number or a boolean: `value: 1` in a pod, `NAME: true` in a compose
    service.

    ## Why is this bad?
    The API server rejects the pod: "cannot unmarshal number into Go struct field EnvVar.value of type string". Compose
    takes numbers, but rejects booleans: "contains true, which is an invalid type".

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
        env:
        - name: VLLM_SERVER_DEV_MODE
          value: 1
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
        env:
        - name: VLLM_SERVER_DEV_MODE
          value: "1"
    ```

    ## Versions
    All.

    ## References
    - Kubernetes documentation, reference/kubernetes-api/workload-resources/pod-v1, EnvVar
    - Docker documentation, reference/compose-file/services, environment
    """
    for setting in unit.env.values():
        value = setting.node.value if isinstance(setting.node, Scalar) else None
        wrong = isinstance(value, bool) or (unit.tool == "k8s" and isinstance(value, int | float))
        if wrong and setting.syntax == "yaml":
            what = "a boolean" if isinstance(value, bool) else "a number"
            yield Problem(setting, f"the value of {setting.name} is {what}, and it has to be text", quote(setting))


@rule("KD024", "argument-no-string", tools=("k8s",), harm="crash", causes=("k8s-args-string",))
def argument_no_string(unit: Unit, job: Job) -> Found:
    """Allow argument-no-string.

    ## What it does
    Finds elements of `command` and `args` that YAML reads as numbers or booleans.

    ## Why is this bad?
    Both are lists of strings; the API server rejects the pod: "cannot unmarshal number into Go struct field
    Container.args of type string".

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "Qwen/Qwen3-8B", "--max-model-len", 8192]
        resources: {limits: {nvidia.com/gpu: 1}}
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
        args: ["--model", "Qwen/Qwen3-8B", "--max-model-len", "8192"]
        resources: {limits: {nvidia.com/gpu: 1}}
    ```

    ## Versions
    All.

    ## References
    - Kubernetes documentation, reference/kubernetes-api/workload-resources/pod-v1, Container
    """
    for name in ("command", "args"):
        items = at(unit.tree, name)
        for item in items.items if isinstance(items, Sequence) else []:
            if isinstance(item, Scalar) and isinstance(item.value, int | float) and not item.quoted:
                fix = Fix(
                    f'quote it: "{item.text}"', (Edit(item.source, item.start, item.end, json.dumps(item.text)),), True
                )
                yield Problem(item.span, f"{item.text} in {name} is no string, and every element has to be one", fix)


@rule("KD025", "options-as-command", tools=("k8s",), harm="crash", causes=("command-vs-args",))
def options_as_command(unit: Unit, job: Job) -> Found:
    """Allow options-as-command.

    ## What it does
    Finds a Kubernetes `command` that begins with an option.

    ## Why is this bad?
    `command` replaces the image's entry point, `args` are given to it. The container does not start: "exec: "--model":
    executable file not found in $PATH".

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        command: ["--model", "Qwen/Qwen3-8B"]
        resources: {limits: {nvidia.com/gpu: 1}}
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
    All.

    ## References
    - Kubernetes documentation, tasks/inject-data-application/define-command-argument-container
    """
    first = _first_word(unit, "command")
    if first is not None and first.startswith("-"):
        setting = unit["command"]
        fix = rename(setting, "args", safe=False) if "args" not in unit else advise("move the options to args")
        yield Problem(setting, f"command begins with the option {first}, but it has to name a program", fix)


@rule(
    "KD026", "entry-point-repeated", tools=("k8s", "compose", "docker"), harm="crash", causes=("entrypoint-duplicated",)
)
def entry_point_repeated(unit: Unit, job: Job) -> Found:
    """Allow entry-point-repeated.

    ## What it does
    Finds `vllm serve ...`, `python3 ...` or a shell as the arguments of the image `vllm/vllm-openai`, whose entry point is
    the server already.

    ## Why is this bad?
    The words are appended to the entry point: the server is started as `vllm serve vllm serve MODEL` and stops with
    "unrecognized arguments".

    ## Example
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: vllm serve Qwen/Qwen3-8B --max-model-len 8192
        gpus: all
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: Qwen/Qwen3-8B --max-model-len 8192
        gpus: all
    ```

    ## Versions
    All. Another `entrypoint` (`command` in Kubernetes) is what starts a shell.

    ## References
    - vllm documentation, deployment/docker
    - vllm-project/vllm docker/Dockerfile, ENTRYPOINT
    """
    if not OWN_ENTRY_POINT.search(unit.entry_point) or unit.open:
        return
    if unit.tool == "docker":
        typed = next((e for e in _kd.servers(unit, job, "vllm") if e.span.text.startswith("vllm")), None)
        if typed is not None and "entrypoint" not in unit:
            yield Problem(
                typed, "the image's entry point is the server already, and vllm is started once more", _leave_out()
            )
        return
    replaced, given = ("command", "args") if unit.tool == "k8s" else ("entrypoint", "command")
    first = _first_word(unit, given)
    if replaced not in unit and first in PROGRAMS:
        message = f"the image's entry point is the server already, and {given} starts {first} once more"
        yield Problem(unit[given], message, _leave_out())


@rule("KD027", "shell-variable-in-args", tools=("k8s",), harm="crash", causes=("k8s-variable-syntax",))
def shell_variable_in_args(unit: Unit, job: Job) -> Found:
    """Allow shell-variable-in-args.

    ## What it does
    Finds `$NAME` or `${NAME}` in `command` or `args` for a variable that the container defines, where no shell runs.

    ## Why is this bad?
    Kubernetes fills in `$(NAME)` only. Without a shell the server gets the text `${NAME}`, as a model's name for example.

    ## Example
    ```yaml pod.yaml
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
      - name: server
        image: vllm/vllm-openai:v0.12.0
        args: ["--model", "${MODEL_ID}"]
        resources: {limits: {nvidia.com/gpu: 1}}
        env: [{name: MODEL_ID, value: Qwen/Qwen3-8B}]
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
        args: ["--model", "$(MODEL_ID)"]
        resources: {limits: {nvidia.com/gpu: 1}}
        env: [{name: MODEL_ID, value: Qwen/Qwen3-8B}]
    ```

    ## Versions
    All.

    ## References
    - Kubernetes documentation, tasks/inject-data-application/define-interdependent-environment-variables
    """
    first = _first_word(unit, "command") or ""
    if first.rpartition("/")[2] in ("sh", "bash", "ash", "zsh", "env"):
        return
    for name in ("command", "args"):
        items = at(unit.tree, name)
        for item in items.items if isinstance(items, Sequence) else []:
            found = re.search(r"\$(\{(\w+)\}|([A-Za-z_]\w*))", item.text) if isinstance(item, Scalar) else None
            variable = (found[2] or found[3]) if found else None
            if isinstance(item, Scalar) and found and variable in unit.env and "\n" not in item.text:
                text = item.source.text[item.start : item.end].replace(found[0], f"$({variable})")
                fix = Fix(f"write $({variable})", (Edit(item.source, item.start, item.end, text),))
                yield Problem(item.span, f"{found[0]} is not filled in: Kubernetes knows $({variable}) only", fix)


@rule(
    "KD028",
    "token-in-manifest",
    tools=("k8s", "compose", "helm", "docker"),
    harm="security",
    severity="warning",
    causes=("secret-in-file",),
)
def token_in_manifest(unit: Unit, job: Job) -> Found:
    """Allow token-in-manifest.

    ## What it does
    Finds a Hugging Face token written out as an environment variable.

    ## Why is this bad?
    Whoever reads the file or the pod's description has the token. Manifests are usually under version control.

    ## Example
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: --model Qwen/Qwen3-8B
        gpus: all
        environment:
          HF_TOKEN: hf_abcdefghijklmnopqrstuvwxyz01234567
    ```

    ## Use instead
    ```yaml compose.yaml
    services:
      vllm:
        image: vllm/vllm-openai:v0.12.0
        command: --model Qwen/Qwen3-8B
        gpus: all
        environment:
          HF_TOKEN: ${HF_TOKEN}
    ```

    ## Versions
    All.

    ## References
    - Kubernetes documentation, concepts/configuration/secret
    - Hugging Face documentation, hub/security-tokens
    """
    for setting in unit.env.values():
        if isinstance(setting.value, str) and re.fullmatch(r"hf_[A-Za-z0-9]{30,}", setting.value):
            yield Problem(
                setting,
                f"{setting.name} holds a token in plain text",
                advise("take it from a secret, and revoke this one"),
            )


def _first_word(unit: Unit, name: str) -> str | None:
    found = at(unit.tree, name)
    if isinstance(found, Sequence):
        found = found.items[0] if found.items else None
    return found.text.split()[0] if isinstance(found, Scalar) and found.text.split() else None


def _leave_out() -> Fix:
    return advise("leave the program out and give the model and the options alone")
