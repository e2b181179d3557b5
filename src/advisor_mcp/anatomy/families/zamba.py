"""Zamba: Mamba layers, and one transformer block whose weights are used again at every hybrid layer."""

from __future__ import annotations

from functools import partial

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    Draft,
    Gated,
    assemble,
    by_kind,
    embedding_block,
    head_block,
)
from advisor_mcp.anatomy.recurrent import (
    HYBRID_KINDS,
    MAMBA1_DERIVED,
    Mamba1,
    Positionless,
    Write,
    counted,
    expanded,
    mixer_layer,
    time_step_rank,
)

MODEL_TYPES = ("zamba",)
OF = "ZambaConfig"
EMBEDDINGS = "model.embed_tokens.weight"
DERIVED: dict[str, Terms] = GROUPED_DERIVED | {"inner": ((1, ("ssm_heads", "ssm_hd")),)} | MAMBA1_DERIVED


def shared_block(b: Draft, root: str, attention: Write, feed: Write) -> None:
    """The transformer block over the stream and the embeddings side by side, from `x` into `shared`.

    Its weights stand under `root`, the layer that first uses them. It has norms, but no residual additions of its own.
    """
    own, b.prefix = b.prefix, root
    b.value("embedded", RESIDUAL)
    b.op("concatenate", ("x", "embedded"), "pair", (*b.tokens, "h.pair"))
    b.norm("input_layernorm", "pair", "pair_n", axis="h.pair")
    attention(b, "pair_n")
    b.norm("pre_ff_layernorm", "attended", "attended_n")
    feed(b, "attended_n")
    b.prefix = own


def hybrid_layer(b: Draft, mamba: Write, shared: Write) -> None:
    """The shared block's output, through a product of the layer's own, is added to what its Mamba mixer reads."""
    shared(b, "x")
    b.linear("linear", "shared", "update", ("h", "h"), "other")
    b.add("x", "update", "u")
    b.norm("mamba_decoder.input_layernorm", "u", "a")
    mamba(b, "a")
    b.add("x", "o", "out")


def without(b: Draft, prefix: str, keep: str = "\0") -> None:
    """Drop the tensors under a prefix, which an earlier layer holds; those with `keep` in their names are the layer's own."""
    b.tensors[:] = [tensor for tensor in b.tensors if not tensor.name.startswith(prefix) or keep in tensor.name]


def describe(c: Config) -> Architecture:
    """A configuration of transformers' ZambaConfig."""
    kinds = _kinds(c)
    first = kinds.index("hybrid") if "hybrid" in kinds else 0
    kinds = ["again" if kind == "hybrid" and index > first else kind for index, kind in enumerate(kinds)]
    mamba = Mamba1(c.flag("mamba_proj_bias"), c.flag("mamba_conv_bias", default=True), heads=True)
    root = f"model.layers.{first}.shared_transf."
    attention = partial(Positionless().write, width="h.pair", out="attended")
    feed = partial(Gated().write, prefix="feed_forward.", out="shared")

    def shared(b: Draft, source: str) -> None:
        shared_block(b, root, attention, feed)

    def layer(b: Draft, kind: str) -> None:
        if kind == "mamba":
            mixer_layer(b, partial(mamba.write, prefix="mamba."), "input_layernorm")
            return
        hybrid_layer(b, partial(mamba.write, prefix="mamba_decoder.mamba."), shared)
        if kind == "again":
            without(b, root)

    tied = c.flag("tie_word_embeddings", default=True)
    blocks = [
        embedding_block(EMBEDDINGS), *by_kind(kinds, layer), head_block(EMBEDDINGS, tied, "model.final_layernorm")
    ]  # fmt: skip
    return assemble(c, "zamba", blocks, _axes(c), DERIVED, tied)


def _kinds(c: Config) -> list[str]:
    for name in ("layers_block_type", "layer_types"):
        if (found := c.entries(name)) is not None:
            return counted(c, c.layer_kinds(name, len(found), HYBRID_KINDS) or [])
    period = c.number("attn_layer_period", default=6, of=OF)
    offset = c.number("attn_layer_offset", default=4, of=OF, least=0)
    rest = ["hybrid" if index % period == offset else "mamba" for index in range(c.layers() - 3)]
    return ["mamba", "mamba", "hybrid", *rest]


def shared_axes(c: Config, of: str, heads: int, kv_heads: int | None) -> dict[str, int]:
    """The axes of the shared block: twice the hidden size comes in, and is split over the heads."""
    h = c.number("hidden_size")
    wide = c.number("attention_hidden_size", default=2 * h)
    qh = c.number("num_attention_heads", default=heads, of=of)
    kvh = c.number("num_key_value_heads", default=kv_heads or qh)
    c.divides(qh, kvh, "the KV heads do not divide the attention heads")
    if c.given("attention_head_dim", "head_dim"):
        hd = c.number("attention_head_dim", "head_dim")
    else:
        hd = c.divides(2 * h, qh, "the heads do not divide twice the hidden_size and no attention_head_dim is given")
    return {"h": h, "h.pair": wide, "qh": qh, "kvh": kvh, "hd": hd, "vocab": c.number("vocab_size")}


def _axes(c: Config) -> dict[str, int]:
    sizes: dict[str, int] = shared_axes(c, OF, 16, None if "num_key_value_heads" in c.data else 16)
    heads = c.number("n_mamba_heads", default=2, of=OF)
    inner = expanded(c, sizes["h"], OF, "mamba_expand")
    return sizes | {
        "ssm_heads": heads,
        "ssm_hd": c.divides(inner, heads, "n_mamba_heads does not divide the inner width"),
        "state": c.number("mamba_d_state", default=16, of=OF),
        "conv_kernel": c.number("mamba_d_conv", default=4, of=OF),
        "dt_rank": time_step_rank(c, sizes["h"], "mamba_dt_rank"),
        "ffn": c.number("intermediate_size"),
    }
