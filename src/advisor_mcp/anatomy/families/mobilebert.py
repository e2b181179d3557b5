"""MobileBERT: BERT's encoder with a narrow inside between two projections, and several MLPs in every layer."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.classics import used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import BOTH_WAYS, Dense, Heads, head_block, only_encoder, task, with_labels
from advisor_mcp.anatomy.families.bert import TABLES, axes, bert_heads
from advisor_mcp.anatomy.inventory import Architecture, Block
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, assemble, attend, by_kind
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("mobilebert",)
OF = "MobileBertConfig"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MobileBertConfig; its "no_norm" has a scale and a shift, as LayerNorm does."""
    only_encoder(c)
    if not c.flag("tie_word_embeddings", default=True):
        raise CannotAnswer(
            "tie_word_embeddings is false, and MobileBERT's head is described with the embedding's table"
        )
    layer = _Layer.of(c)
    sizes = _axes(c, layer)
    heads = _heads(c)
    which = task(c, tuple(heads), "ForMaskedLM")
    prefix = "" if which == "Model" else "mobilebert."
    blocks = [
        _embedding(f"{prefix}embeddings.", sizes),
        *by_kind(["full"] * c.layers(), lambda b, _: layer.write(b), f"{prefix}encoder.layer.{{layer}}."),
        head_block(heads[which]),
    ]
    if which in ("ForMaskedLM", "ForPreTraining") and sizes["rest"]:
        blocks.append(_rest_of_head())
    sizes = with_labels(c, sizes, heads[which])
    return assemble(c, "mobilebert", blocks, sizes, used(sizes), True, [BOTH_WAYS])


def _axes(c: Config, layer: _Layer) -> dict[str, int]:
    h = c.number("hidden_size")
    heads = c.number("num_attention_heads")
    narrow = c.number("intra_bottleneck_size", default=128, of=OF) if layer.bottleneck else h
    hd = c.divides(narrow, heads, "num_attention_heads does not divide the width inside the layers")
    sizes = {"h": h, "qh": heads, "kvh": heads, "hd": hd, "narrow": narrow} | axes(c, OF)
    sizes["embed"] = c.number("embedding_size", default=128, of=OF)
    sizes["rest"] = h - sizes["embed"]
    if sizes["rest"] < 0:
        raise UsageError("the configuration contradicts itself: embedding_size exceeds hidden_size")
    sizes["joined"] = sizes["embed"] * (3 if c.flag("trigram_input", default=True) else 1)
    return sizes


def _embedding(prefix: str, sizes: dict[str, int]) -> Block:
    """Three neighbouring tokens' rows side by side, projected to the model's width, before positions and types are added."""
    b = Draft("embedding", prefix)
    b.value("ids", TOKENS, "int")
    words, *others = TABLES
    table = b.tensor(words.name, ("vocab", "embed"), words.role)
    b.op("lookup", ("ids",), "e", (*TOKENS, "joined"), weights=[table])
    source = "wide"
    if sizes["joined"] == sizes["h"] == sizes["embed"]:  # the class has the matrix and leaves it out
        b.tensor("embedding_transformation.weight", ("h", "joined"), "other", matrix=True)
        b.tensor("embedding_transformation.bias", ("h",), "other")
        source = "e"
    else:
        b.linear("embedding_transformation", "e", "wide", ("h", "joined"), "other", True)
    weights = [b.tensor(t.name, (t.rows, "h"), t.role) for t in others]
    b.op("lookup", (source,), "sum", RESIDUAL, weights=weights)
    b.norm("LayerNorm", "sum", "x", "layer")
    return b.block((0,))


def _rest_of_head() -> Block:
    """The columns by which the embedding's table is widened to predict tokens; the head's product counts them."""
    b = Draft("head", "cls.predictions.")
    b.tensor("dense.weight", ("rest", "vocab"), "lm_head", matrix=True)
    return b.block((0,))


def _heads(c: Config) -> Heads:
    heads = bert_heads("mobilebert.", True)
    if c.flag("classifier_activation", default=True):
        return heads
    return {
        name: tuple(kept for chain in chains if (kept := tuple(part for part in chain if not _is_pooler(part))))
        for name, chains in heads.items()
    }


def _is_pooler(part: object) -> bool:
    return isinstance(part, Dense) and part.name.endswith("pooler.dense")


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer; with a `bottleneck`, queries and keys (`shared`) or all inputs (`everything`) pass through it."""

    bottleneck: bool
    everything: bool
    shared: bool
    feeds: int

    @classmethod
    def of(cls, c: Config) -> _Layer:
        bottleneck = c.flag("use_bottleneck", default=True)
        everything = c.flag("use_bottleneck_attention")
        shared = c.flag("key_query_shared_bottleneck", default=True)
        if bottleneck and not (everything or shared):
            raise CannotAnswer("queries and keys that pass through no bottleneck are not described for MobileBERT")
        feeds = c.number("num_feedforward_networks", default=4, of=OF)
        if feeds > 1000:
            raise UsageError(f"num_feedforward_networks in the configuration is {feeds}; at most 1000 are described")
        return cls(bottleneck, everything, shared, feeds)

    def write(self, b: Draft) -> None:
        inside, asked, valued = self._inputs(b)
        value_width = "narrow" if self.everything or not self.bottleneck else "h"
        b.linear("attention.self.query", asked, "q", ("q", "narrow"), "attention", True)
        b.linear("attention.self.key", asked, "k", ("kv", "narrow"), "attention", True)
        b.linear("attention.self.value", valued, "v", ("kv", value_width), "attention", True)
        attend(b, BOTH_WAYS)
        b.linear("attention.output.dense", "att", "o", ("narrow", "q"), "attention", True)
        _close(b, "attention.output.LayerNorm", inside, "o", "a")
        last = "a"
        for index in range(self.feeds - 1):
            last = _feed(b, f"ffn.{index}.", last, f"f{index}")
        last = _feed(b, "", last, "f")
        if self.bottleneck:
            b.linear("output.bottleneck.dense", last, "wide", ("h", "narrow"), "other", True)
            _close(b, "output.bottleneck.LayerNorm", "x", "wide", "out", "h")

    def _inputs(self, b: Draft) -> tuple[str, str, str]:
        """What the residual, queries and keys, and values start from."""
        if not self.bottleneck:
            return "x", "x", "x"
        names = ("input", "attention") if self.shared else ("input",)
        for name in names:
            if name == "attention" and self.everything:  # held, and not used
                b.tensor("bottleneck.attention.dense.weight", ("narrow", "h"), "other", matrix=True)
                b.tensor("bottleneck.attention.dense.bias", ("narrow",), "other")
                b.tensor("bottleneck.attention.LayerNorm.weight", ("narrow",), "norm")
                b.tensor("bottleneck.attention.LayerNorm.bias", ("narrow",), "norm")
                continue
            b.linear(f"bottleneck.{name}.dense", "x", f"{name}.d", ("narrow", "h"), "other", True)
            b.norm(f"bottleneck.{name}.LayerNorm", f"{name}.d", f"{name}.n", "layer", "narrow")
        return ("input.n",) * 3 if self.everything else ("input.n", "attention.n", "x")


def _feed(b: Draft, prefix: str, source: str, out: str) -> str:
    b.linear(f"{prefix}intermediate.dense", source, f"{out}.up", ("ffn", "narrow"), "mlp", True)
    b.op("activation", (f"{out}.up",), f"{out}.act", (*b.tokens, "ffn"))
    b.linear(f"{prefix}output.dense", f"{out}.act", f"{out}.y", ("narrow", "ffn"), "mlp", True)
    _close(b, f"{prefix}output.LayerNorm", source, f"{out}.y", out)
    return out


def _close(b: Draft, norm: str, stream: str, update: str, out: str, axis: str = "narrow") -> None:
    b.op("add", (stream, update), f"{out}.sum", (*b.tokens, axis))
    b.norm(norm, f"{out}.sum", out, "layer", axis)
