"""Gemma 3n and 4: layers that read an earlier layer's keys and values, and embeddings of their own for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Block, Span, Terms
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, attend, kv_cache
from advisor_mcp.errors import UsageError

LAYER_KINDS = {"full_attention": "full", "sliding_attention": "sliding"}
PER_LAYER: Terms = ((1, ("layers", "ple")),)


def borrowing(c: Config, kinds: Sequence[str], default: int, of: str) -> list[bool]:
    """Which layers read the keys and values of the last layer of their kind before the shared ones."""
    shared = c.number("num_kv_shared_layers", default=default, of=of, least=0)
    first = len(kinds) - shared
    if shared and (first < 1 or set(kinds[:first]) != set(kinds)):
        raise UsageError(
            f"the configuration contradicts itself: the last {shared} of {len(kinds)} layers share keys and values, but not "
            "every kind of layer stands before them"
        )
    return [index >= first for index in range(len(kinds))]


@dataclass(frozen=True, slots=True)
class Normed:
    """Gemma's attention since 3n: norms on queries, keys and (without weights) values.

    `borrowed` has no keys and values of its own and no cache. `key_is_value` has no value matrix. `variant` follows the
    names of the axes hd, kvh, q and kv where a kind of layer has its own.
    """

    bias: bool = False
    borrowed: bool = False
    key_is_value: bool = False
    variant: str = ""

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the projections, norms, the attention and its cache."""
        hd, q, kv, kvh = (f"{axis}{self.variant}" for axis in ("hd", "q", "kv", "kvh"))
        b.linear("self_attn.q_proj", source, "q", (q, "h"), "attention", self.bias)
        b.norm("self_attn.q_norm", "q", "qn", axis=hd, role="qk_norm", axes=(*b.tokens, q))
        if self.borrowed:
            b.op("borrow", (), "kn", (*b.tokens, kv))
            b.op("borrow", (), "vn", (*b.tokens, kv))
        else:
            self._own(b, source, hd, kv)
            b.caches.append(kv_cache(span, ((2, (kvh, hd)),)))
        b.op("rope", ("qn", "kn"), "qr", (*b.tokens, q))
        attend(b, span, "qh", hd, hd, ("qr", "kn", "vn"))
        b.linear("self_attn.o_proj", "att", "o", ("h", q), "attention", self.bias)

    def _own(self, b: Draft, source: str, hd: str, kv: str) -> None:
        b.linear("self_attn.k_proj", source, "k", (kv, "h"), "attention", self.bias)
        if not self.key_is_value:
            b.linear("self_attn.v_proj", source, "v", (kv, "h"), "attention", self.bias)
        b.norm("self_attn.k_norm", "k", "kn", axis=hd, role="qk_norm", axes=(*b.tokens, kv))
        b.norm("self_attn.v_norm", "k" if self.key_is_value else "v", "vn", "none", kv)

    def stored(self, name: str, prefix: str, layers: tuple[int, ...]) -> Block:
        """The keys and values that checkpoints hold for layers that borrow theirs."""
        b = Draft(name, prefix)
        hd, kv = f"hd{self.variant}", f"kv{self.variant}"
        for which in ("k",) if self.key_is_value else ("k", "v"):
            b.tensor(f"self_attn.{which}_proj.weight", (kv, "h"), "attention", matrix=True)
            if self.bias:
                b.tensor(f"self_attn.{which}_proj.bias", (kv,), "attention")
        b.tensor("self_attn.k_norm.weight", (hd,), "qk_norm")
        return b.block(layers)


def unused(name: str, attentions: Sequence[Normed], prefix: str) -> tuple[Block, ...]:
    """Blocks of the stored but unused keys and values, one per kind of layer that borrows; `attentions` has one per layer."""
    found: dict[Normed, list[int]] = {}
    for index, attention in enumerate(attentions):
        if attention.borrowed:
            found.setdefault(attention, []).append(index)
    return tuple(attention.stored(name, prefix, tuple(layers)) for attention, layers in found.items())


def embed(b: Draft, root: str, per_layer: bool) -> None:
    """Token embeddings and, where the model has them, an embedding of width `ple` for every layer and its projection."""
    b.value("ids", TOKENS, "int")
    b.op(
        "lookup",
        ("ids",),
        "x",
        RESIDUAL,
        weights=[b.tensor(f"{root}embed_tokens.weight", ("vocab", "h"), "token_embedding")],
    )
    if not per_layer:
        return
    table = b.tensor(f"{root}embed_tokens_per_layer.weight", ("ple_vocab", "ple_all"), "per_layer_embedding")
    b.op("lookup", ("ids",), "ple_ids", (*TOKENS, "ple_all"), weights=[table])
    b.linear(f"{root}per_layer_model_projection", "x", "ple_x", ("ple_all", "h"), "other")
    b.norm(f"{root}per_layer_projection_norm", "ple_x", "ple_n", axis="ple", axes=(*TOKENS, "ple_all"))
    b.add("ple_n", "ple_ids", "ple_in")


def add_per_layer(b: Draft, stream: str, out: str) -> None:
    """The layer's own embedding, gated by the stream, projected, normalised."""
    b.linear("per_layer_input_gate", stream, "pg", ("ple", "h"), "other")
    b.value("ple_in", (*TOKENS, "ple"))
    b.op("gate", ("pg", "ple_in"), "pa", (*TOKENS, "ple"))
    b.linear("per_layer_projection", "pa", "pp", ("h", "ple"), "other")
    b.norm("post_per_layer_input_norm", "pp", out)
