"""Decoders that stand inside a larger model: where their configuration is, and how towers are joined to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import bounded

# where the files of later releases hold the decoder
LANGUAGE_MODEL = {"model.": "model.language_model."}
NO_VISION = "the configuration has no vision_config, so the vision tower is not counted"


def decoder_config(c: Config, of: str, defaults: Mapping[str, Any], *, name: str = "text_config") -> Config:
    """The decoder's own configuration: the part `name`, or the top level of files that hold all in one.

    Fields that are absent take `defaults`, those of the class `of`; each is noted.
    """
    text = c.part(name) or c
    data = dict(text.data)
    for field, value in defaults.items():
        if field not in data:
            data[field] = value
            c.notes.append(f"{text.prefix}{field} is absent: {value}, the default of {of}")
    return Config(data, text.prefix, c.notes)


def with_fields(c: Config, **fields: Any) -> Config:
    """The configuration with these fields in place of its own."""
    return Config({**c.data, **fields}, c.prefix, c.notes)


def filled(c: Config, of: str, defaults: Mapping[str, Any]) -> Config:
    """The configuration with the defaults of the class `of` for absent fields, each of which is noted."""
    absent = {field: value for field, value in defaults.items() if field not in c.data}
    for field, value in absent.items():
        c.notes.append(f"{c.prefix}{field} is absent: {value}, the default of {of}")
    return with_fields(c, **absent)


def renamed(block: Block, names: Mapping[str, str]) -> Block:
    """The block with every tensor name that starts with a key of `names` starting with its value instead."""

    def name(full: str) -> str:
        old = next((old for old in names if full.startswith(old)), None)
        return full if old is None else names[old] + full.removeprefix(old)

    tensors = tuple(replace(tensor, name=name(tensor.name)) for tensor in block.tensors)
    ops = tuple(replace(op, weights=tuple(name(weight) for weight in op.weights)) for op in block.ops)
    return replace(block, tensors=tensors, ops=ops)


def joined(
    c: Config, family: str, decoder: Architecture, towers: Sequence[Block], sizes: Mapping[str, int],
    names: Mapping[str, str] | None = None, missing: Sequence[str] = (),
) -> Architecture:  # fmt: skip
    """The decoder behind the towers, its tensors renamed by prefix; `missing` are the parts that cannot be counted."""
    found = replace(
        decoder,
        family=family,
        blocks=(*towers, *(renamed(block, names or {}) for block in decoder.blocks)),
        sizes={**decoder.sizes, **sizes},
        notes=tuple(c.notes),
        not_described=(*decoder.not_described, *missing),
    )
    return bounded(found)
