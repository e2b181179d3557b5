"""RWKV 4: a recurrence with one decay per channel (time mix) and a gated squared-ReLU part (channel mix) in every layer."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Cache
from advisor_mcp.anatomy.parts import RESIDUAL, Draft, assemble, by_kind, embedding_block, head_block
from advisor_mcp.anatomy.recurrent import scan

MODEL_TYPES = ("rwkv",)
EMBEDDINGS = "rwkv.embeddings.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' RwkvConfig (RWKV 4; the later versions have other layers and model types)."""
    h = c.number("hidden_size")
    sizes = {
        "h": h,
        "inner": c.number("attention_hidden_size", default=h),
        "ffn": c.number("intermediate_size", default=4 * h),
        "vocab": c.number("vocab_size"),
    }
    kinds = ["first", *["rwkv"] * (c.layers() - 1)]
    tied = c.flag("tie_word_embeddings")
    blocks = [
        embedding_block(EMBEDDINGS),
        *by_kind(kinds, _layer, "rwkv.blocks.{layer}."),
        head_block(EMBEDDINGS, tied, "rwkv.ln_out", "layer", name="head"),
    ]
    return assemble(c, "rwkv", blocks, sizes, {}, tied, spans=())


def _layer(b: Draft, kind: str) -> None:
    stream = "x"
    if kind == "first":
        b.norm("pre_ln", "x", "x0", "layer", role="other")
        stream = "x0"
    b.norm("ln1", stream, "a", "layer")
    _time_mix(b, "a")
    b.add(stream, "o", "r")
    b.norm("ln2", "r", "m", "layer")
    _channel_mix(b, "m")
    b.add("r", "y", "out")


def _shift(b: Draft, source: str, names: tuple[str, ...], prefix: str, role: str) -> None:
    """Mix each token with the one before it, once per use; the last token is what is kept."""
    for name in names:
        mix = b.tensor(f"{prefix}time_mix_{name}", (1, 1, "h"), role)
        b.op("mix", (source,), f"{source}_{name}", RESIDUAL, weights=[mix])
    b.caches.append(Cache("recurrent", fixed=((1, ("h",)),)))


def _time_mix(b: Draft, source: str) -> None:
    prefix, role = "attention.", "attention"
    _shift(b, source, ("key", "value", "receptance"), prefix, role)
    for name in ("key", "value", "receptance"):
        b.linear(f"{prefix}{name}", f"{source}_{name}", name, ("inner", "h"), role)
    decay = [b.tensor(f"{prefix}{name}", ("inner",), role) for name in ("time_decay", "time_first")]
    # a numerator and a denominator per channel, in fp32 ...
    scan(b, ("key", "value"), "wkv", "inner", (2, "inner"), decay, "fp32")
    # ... and the largest exponent so far, which keeps both in range
    b.caches.append(Cache("recurrent", fixed=((1, ("inner",)),), dtype="fp32"))
    b.op("gate", ("wkv", "receptance"), "wkv_gated", (*b.tokens, "inner"))
    b.linear(f"{prefix}output", "wkv_gated", "o", ("h", "inner"), role)


def _channel_mix(b: Draft, source: str) -> None:
    prefix, role = "feed_forward.", "mlp"
    _shift(b, source, ("key", "receptance"), prefix, role)
    b.linear(f"{prefix}key", f"{source}_key", "up", ("ffn", "h"), role)
    b.op("activation", ("up",), "act", (*b.tokens, "ffn"))
    b.linear(f"{prefix}value", "act", "down", ("h", "ffn"), role)
    b.linear(f"{prefix}receptance", f"{source}_receptance", "ffn_gate", ("h", "h"), role)
    b.op("gate", ("down", "ffn_gate"), "y", RESIDUAL)
