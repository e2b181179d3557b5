"""Containers of Kubernetes manifests, docker-compose files, Helm values and llama-swap files, and what runs in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from advisor_mcp.linting import commands
from advisor_mcp.linting.commands import Line, nested, units_of_image
from advisor_mcp.linting.flag_words import parse_options
from advisor_mcp.linting.shell import read_shell
from advisor_mcp.linting.source import SourceFile, Span
from advisor_mcp.linting.tree import UNKNOWN, Entry, Mapping, Node, Scalar, Sequence, Syntax, at, plain
from advisor_mcp.linting.unit import Setting, Unit, flatten, scalar_text
from advisor_mcp.linting.words import Piece, Word


def offsets_of(node: Scalar) -> list[int]:
    """The place in the source of each character of a scalar's text, whatever its style of quoting."""
    raw, found, at_ = node.source.text, list[int](), node.start
    for char in node.text:
        if char.isspace():
            found.append(min(at_, max(node.end - 1, node.start)))
            if at_ < node.end and raw[at_].isspace():
                at_ += 1
            continue
        while at_ < node.end and raw[at_] != char:
            at_ += 1
        found.append(min(at_, max(node.end - 1, node.start)))
        at_ += 1
    return found


def word_of(node: Scalar) -> Word:
    """A scalar as one word of a command line, character by character where it was written."""
    pieces = tuple(_pieces(node))
    start, end = (pieces[0].start, pieces[-1].end) if pieces else (node.start, node.end)
    return Word(pieces, Span(node.source, start, end), quoted=True)


def _pieces(node: Scalar) -> Iterator[Piece]:
    """Runs of characters that stand together; `$(VAR)` and `${VAR}` are holes, for the cluster fills them in."""
    offsets = offsets_of(node)
    text, begin = node.text, 0
    holes = {m.start(): m.end() for m in re.finditer(r"\$\(\w+\)|\$\{[^}]*\}|\{\{.*?\}\}", text)}
    index = 0
    while index < len(text):
        if index in holes:
            if index > begin:
                yield from _runs(node, text, offsets, begin, index)
            yield Piece("\0", node.source, offsets[index], offsets[holes[index] - 1] + 1)
            index = begin = holes[index]
            continue
        index += 1
    yield from _runs(node, text, offsets, begin, len(text))


def _runs(node: Scalar, text: str, offsets: list[int], start: int, end: int) -> Iterator[Piece]:
    begin = start
    for index in range(start + 1, end + 1):
        if index == end or offsets[index] != offsets[index - 1] + 1:
            if begin < index:
                yield Piece(text[begin:index], node.source, offsets[begin], offsets[index - 1] + 1)
            begin = index


def words_of(node: Node | None) -> tuple[Word, ...]:
    """A list of words, or one text that is cut as a shell would."""
    if isinstance(node, Sequence):
        return tuple(word_of(item) for item in node.items if isinstance(item, Scalar))
    if isinstance(node, Scalar) and node.text:
        script = read_shell(embedded(node))
        return script.commands[0].words if script.commands else ()
    return ()


def embedded(node: Scalar, name: str | None = None) -> SourceFile:
    """A scalar's text as a source of its own."""
    return node.source.embedded(node.text, offsets_of(node), name)


# ---- Kubernetes ----


def kubernetes(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of a manifest: one for each container, and what its command starts."""
    found: list[Unit] = []
    for pod in _pods(document):
        containers = at(pod, "containers")
        if isinstance(containers, Sequence):
            for item in containers.items:
                if isinstance(item, Mapping):
                    found += _container(item, pod, document, syntax)
    found += _config_map(document)
    return found


def _pods(node: Node) -> Iterator[Mapping]:
    stack: list[Node] = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, Mapping):
            if isinstance(here.get("containers"), Sequence):
                yield here
            stack += [entry.value for entry in reversed(here.entries)]
        elif isinstance(here, Sequence):
            stack += reversed(here.items)


def _container(item: Mapping, pod: Mapping, document: Mapping, syntax: Syntax) -> list[Unit]:
    entry = item.entry("name") or item.entries[0]
    unit = Unit("k8s", item.source, entry.key.span, "container", item, flatten(item, syntax))
    unit.pod, unit.document = pod, document
    unit.env = environment(item.get("env"), syntax)
    image = scalar_text(item.get("image")) or ""
    unit.entry_point = image
    command, args = words_of(item.get("command")), words_of(item.get("args"))
    line = Line((*command, *args), unit.env, item.source, unit.span, container=unit)
    started = units_of_image(image, line, command[0].text if command else "")
    return [unit, *_environment_unit(unit, item), *started]


def _environment_unit(unit: Unit, item: Mapping) -> list[Unit]:
    found = commands.env_unit(item.source, unit.env)
    if found:
        found.container = unit
    return [found] if found else []


def environment(node: Node | None, syntax: Syntax) -> dict[str, Setting]:
    """Environment variables: a list of name and value, of `NAME=value` texts, or a mapping."""
    found: dict[str, Setting] = {}
    if isinstance(node, Mapping):
        for entry in node.entries:
            found[entry.name] = _variable(entry.name, entry.key.span, entry.value, syntax, node, entry)
    elif isinstance(node, Sequence):
        for item in node.items:
            if isinstance(item, Mapping) and (name := scalar_text(item.get("name"))):
                named, value = item.entry("name"), item.entry("value")
                if named is not None:
                    place = value.value if value else named.value
                    key = Span(named.value.source, named.value.start, named.value.end)
                    found[name] = _variable(name, key, place, syntax, item, value, known=value is not None)
            elif isinstance(item, Scalar) and re.match(r"\w+=", item.text):
                name, _, text = item.text.partition("=")
                word = word_of(item)
                key = Span(item.source, word.span.start, word.span.start + len(name))
                found[name] = Setting(
                    name, UNKNOWN if "${" in text else text, key, word.sub(len(name) + 1), name, "env"
                )
    return found


def _variable(
    name: str, key: Span, node: Node, syntax: Syntax, parent: Mapping, entry: Entry | None, known: bool = True
) -> Setting:
    value: Any = plain(node) if known else UNKNOWN
    if isinstance(node, Scalar) and known and value is not UNKNOWN:
        value = node.text
    return Setting(name, value, key, Span(node.source, node.start, node.end), name, syntax, node, parent, entry)


def _config_map(document: Mapping) -> list[Unit]:
    from advisor_mcp.linting.recognise import units_of_text

    found: list[Unit] = []
    data = document.get("data")
    if scalar_text(document.get("kind")) == "ConfigMap" and isinstance(data, Mapping):
        for entry in data.entries:
            if (
                isinstance(entry.value, Scalar)
                and "\n" in entry.value.text
                and re.search(r"\.(sh|json|ya?ml|toml)$", entry.name)
            ):
                found += units_of_text(embedded(entry.value, entry.name))
    return found


# ---- docker-compose ----


def compose(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of a docker-compose file: one for each service, and what its command starts."""
    found: list[Unit] = []
    services = document.get("services")
    for entry in services.entries if isinstance(services, Mapping) else []:
        if isinstance(entry.value, Mapping):
            item = entry.value
            unit = Unit("compose", item.source, entry.key.span, "service", item, flatten(item, syntax))
            unit.env = environment(item.get("environment"), syntax)
            unit.document = document
            image = scalar_text(item.get("image")) or ""
            unit.entry_point = image
            entry_point = words_of(item.get("entrypoint"))
            line = Line(
                (*entry_point, *words_of(item.get("command"))), unit.env, item.source, unit.span, container=unit
            )
            started = units_of_image(image, line, entry_point[0].text if entry_point else "")
            found += [unit, *_environment_unit(unit, item), *started]
    return found


# ---- Helm values of the vLLM production stack ----

_STACK = {
    "tensorParallelSize": "tensor_parallel_size", "pipelineParallelSize": "pipeline_parallel_size", "maxModelLen": "max_model_len",
    "dtype": "dtype", "enableChunkedPrefill": "enable_chunked_prefill", "enablePrefixCaching": "enable_prefix_caching",
    "maxNumSeqs": "max_num_seqs", "gpuMemoryUtilization": "gpu_memory_utilization", "maxLoras": "max_loras",
}  # fmt: skip


def helm(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of the production stack's values: a container and a vLLM server for each model."""
    found: list[Unit] = []
    models = at(document, "servingEngineSpec", "modelSpec")
    for item in models.items if isinstance(models, Sequence) else []:
        if isinstance(item, Mapping) and item.entries:
            found += _model_spec(item, document, syntax)
    return found


def _model_spec(item: Mapping, document: Mapping, syntax: Syntax) -> list[Unit]:
    entry = item.entry("name") or item.entries[0]
    unit = Unit("helm", item.source, entry.key.span, "modelSpec", item, flatten(item, syntax))
    unit.env = environment(item.get("env"), syntax)
    unit.document = document
    tag = scalar_text(item.get("tag")) or ""
    unit.target = tag if re.match(r"v?\d+\.\d+", tag) else None
    options = parse_options(words_of(at(item, "vllmConfig", "extraArgs")), "vllm", "serve", target=unit.target)
    settings = _stack_settings(item, syntax) | options.settings
    if "modelURL" in unit:
        settings["model"] = replace(unit["modelURL"], name="model")
    engine = Unit(
        "vllm", item.source, unit.span, "serve", None, settings, unit.env, options.open, "helm", container=unit,
        target=unit.target,
    )  # fmt: skip
    return [unit, *_environment_unit(unit, item), engine]


def _stack_settings(item: Mapping, syntax: Syntax) -> dict[str, Setting]:
    """What the chart passes to vLLM, by vLLM's names."""
    config = item.get("vllmConfig")
    passed = flatten(config, syntax) if isinstance(config, Mapping) else {}
    return {_STACK[name]: replace(setting, name=_STACK[name]) for name, setting in passed.items() if name in _STACK}


# ---- llama-swap and srt-slurm ----


def llama_swap(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of a llama-swap file: what each model's `cmd` starts."""
    found: list[Unit] = []
    models = document.get("models")
    for entry in models.entries if isinstance(models, Mapping) else []:
        node = at(entry.value, "cmd")
        if isinstance(node, Scalar):
            env = environment(at(entry.value, "env"), syntax)
            found += nested(word_of(node), Line((), env, node.source, entry.key.span))
    return found


_SRT = {
    "sglang_config": ("sglang", "serve"),
    "vllm_config": ("vllm", "serve"),
    "trtllm_config": ("tensorrt-llm", "yaml"),
}


def srt_slurm(document: Mapping, syntax: Syntax) -> list[Unit]:
    """The units of a disaggregated-serving recipe: one server for each role of its backend."""
    found: list[Unit] = []
    backend = document.get("backend")
    for name, (tool, scope) in _SRT.items():
        roles = at(backend, name)
        for entry in roles.entries if isinstance(roles, Mapping) else []:
            if isinstance(entry.value, Mapping):
                env = environment(at(backend, f"{entry.name}_environment"), syntax)
                canonical = {e.name: e.name.replace("-", "_") for e in entry.value.entries}
                settings = flatten(entry.value, syntax, canonical)
                found.append(
                    Unit(tool, document.source, entry.key.span, scope, entry.value, settings, env, True, "srt-slurm")
                )
    return found
