"""Searched Llamas: Nemotron Super and Ultra, DeciLM. Each layer has its own KV heads and width, or lacks a part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Attention, Draft, Feed, Gated, assemble, by_kind, embedding_block, head_block
from advisor_mcp.anatomy.variants import GatedFeed, Heads, axes_of, with_ffn
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("nemotron-nas", "deci")
EMBEDDING = "model.embed_tokens.weight"
WIDTH_STEP = 256  # widths are rounded up to a multiple of it


@dataclass(frozen=True, slots=True)
class Linear:
    """One square matrix in the place of an attention or an MLP."""

    name: str
    role: str
    out: str
    bias: bool

    def write(self, b: Draft, source: str, span: Span | None = None) -> None:
        """Add the product."""
        b.linear(self.name, source, self.out, ("h", "h"), self.role, self.bias)


def describe(c: Config) -> Architecture:
    """A configuration of NVIDIA's DeciLMConfig: `block_configs` (nemotron-nas), or KV heads per layer (deci)."""
    return _deci(c) if c.text("model_type") == "deci" and not c.given("block_configs") else _searched(c)


def _searched(c: Config) -> Architecture:
    layers, sizes = c.layers(), _axes(c)
    blocks = c.entries("block_configs", length=layers)
    if blocks is None:
        raise CannotAnswer(
            "the configuration has no block_configs, which this model type needs", needs=["block_configs"]
        )
    kinds, mixers, feeds = [], {}, {}
    for index, block in enumerate(blocks):
        part = _part(block, f"block_configs[{index}]", c)
        mixer, attention = _attention(
            c, part.part("attention") or Config({}, f"{part.prefix}attention.", c.notes), sizes
        )
        width, feed = _feed(c, part.part("ffn") or Config({}, f"{part.prefix}ffn.", c.notes), sizes)
        kinds.append(f"attention {mixer}, ffn {width}")
        mixers[kinds[-1]], feeds[kinds[-1]] = attention, feed
    return _decoder(c, "nemotron-nas", kinds, mixers, feeds, sizes)


def _deci(c: Config) -> Architecture:
    layers, sizes = c.layers(), with_ffn(c, _axes(c))
    listed = c.entries("num_key_value_heads_per_layer", length=layers)
    if listed is None:
        heads = [c.number("num_key_value_heads")] * layers
    else:
        found = Config(
            {str(index): value for index, value in enumerate(listed)}, "num_key_value_heads_per_layer.", c.notes
        )
        heads = [found.number(str(index)) for index in range(layers)]
    bias, mlp_bias = c.flag("attention_bias"), c.flag("mlp_bias")
    kinds = [f"attention {number}" for number in heads]
    mixers: dict[str, Attention | None] = {f"attention {n}": _heads(c, n, bias, sizes) for n in dict.fromkeys(heads)}
    return _decoder(c, "deci", kinds, mixers, dict.fromkeys(kinds, Gated(bias=mlp_bias)), sizes)


def _decoder(
    c: Config, family: str, kinds: list[str], mixers: dict[str, Attention | None], feeds: dict[str, Any],
    sizes: dict[str, int],
) -> Architecture:  # fmt: skip
    def layer(b: Draft, kind: str) -> None:
        stream, mixer, feed = "x", mixers[kind], feeds[kind]
        if mixer is not None:
            b.norm("input_layernorm", stream, "a")
            mixer.write(b, "a", Span())
            b.add(stream, "o", "r")
            stream = "r"
        if feed is not None:
            b.norm("post_attention_layernorm", stream, "m")
            feed.write(b, "m")
            b.add(stream, "y", "out")

    tied = c.flag("tie_word_embeddings")
    derived: dict[str, Terms] = {"q": ((1, ("qh", "hd")),)}
    derived |= {f"kv{axis[3:]}": ((1, (axis, "hd")),) for axis in sizes if axis.startswith("kvh.")}
    blocks = [embedding_block(EMBEDDING), *by_kind(kinds, layer), head_block(EMBEDDING, tied)]
    return assemble(c, family, blocks, sizes, derived, tied)


def _axes(c: Config) -> dict[str, int]:
    # what a file says of KV heads for the whole model is dead: the blocks say it
    without = Config({k: v for k, v in c.data.items() if k != "num_key_value_heads"}, c.prefix, c.notes)
    return {axis: size for axis, size in axes_of(without).items() if axis != "kvh"}


def _part(value: Any, name: str, c: Config) -> Config:
    if not isinstance(value, dict):
        raise UsageError(f"{name} in the configuration must be an object, not {shown(value)}")
    return Config(value, f"{name}.", c.notes)


def _attention(c: Config, block: Config, sizes: dict[str, int]) -> tuple[str, Attention | None]:
    bias = c.flag("attention_bias")
    if block.flag("no_op"):
        return "none", None
    if block.flag("replace_with_linear"):
        return "linear", Linear("self_attn.linear_attn", "attention", "o", bias)
    if block.given("window_length"):
        raise CannotAnswer(f"{block.prefix}window_length is set, and windows are not described for this model type")
    group = block.number("n_heads_in_group")
    heads = c.divides(sizes["qh"], group, f"{block.prefix}n_heads_in_group does not divide num_attention_heads")
    return f"{heads}", _heads(c, heads, bias, sizes)


def _heads(c: Config, heads: int, bias: bool, sizes: dict[str, int]) -> Heads:
    c.divides(sizes["qh"], heads, "the KV heads do not divide the attention heads")
    sizes[f"kvh.{heads}"] = heads
    return Heads(q_bias=bias, kv_bias=bias, o_bias=bias, kvh=f"kvh.{heads}", kv=f"kv.{heads}")


def _feed(c: Config, block: Config, sizes: dict[str, int]) -> tuple[str, Feed | None]:
    bias = c.flag("mlp_bias")
    if block.flag("no_op"):
        return "none", None
    if block.flag("replace_with_linear"):
        return "linear", Linear("mlp.linear_mlp", "mlp", "y", bias)
    width = _width(block, sizes["h"])
    sizes[f"ffn.{width}"] = width
    return f"{width}", GatedFeed(axis=f"ffn.{width}", bias=bias)


def _width(block: Config, h: int) -> int:
    """2/3 of the multiple of the hidden size, rounded down, then up to the next multiple of 256."""
    multiple = block.data.get("ffn_mult")
    if multiple is None:
        return block.number("intermediate_size")
    if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not 0 < multiple < 1e4:
        raise UsageError(
            f"{block.prefix}ffn_mult in the configuration must be a number above 0 and below 10,000, not {shown(multiple)}"
        )
    return max(math.ceil(int(2 * round(multiple, 6) * h / 3) / WIDTH_STEP), 1) * WIDTH_STEP
