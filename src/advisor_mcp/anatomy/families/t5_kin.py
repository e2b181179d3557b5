"""Switch Transformers and LongT5: T5 with one of many experts per token, or with an encoder that sees a neighbourhood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    BOTH_WAYS,
    SAME_LENGTH,
    Cross,
    CrossLayer,
    Vocabulary,
    end_of_encoder,
    head_block,
    task,
)
from advisor_mcp.anatomy.families.t5 import NAMES, SHARED, axes, decoder_blocks, feed, is_gated, layer_kinds
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Span
from advisor_mcp.anatomy.parts import RESIDUAL, Draft, Feed, assemble, by_kind
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("switch_transformers", "longt5")
HEAD = "ForConditionalGeneration"


@dataclass(frozen=True, slots=True)
class PlainExperts:
    """A router and experts of two matrices each; `names` are theirs within an expert, `axis` is their width."""

    prefix: str
    names: tuple[str, str]
    axis: Axis = "moe_ffn"
    bias: bool = False
    router_bias: bool = False

    def write(self, b: Draft, source: str) -> None:
        """Add the scores, the experts' products and their sum."""
        rows: Axes = (*b.tokens, "topk")
        up, down = (f"{self.prefix}experts.expert_{{expert}}.{name}" for name in self.names)
        b.linear(f"{self.prefix}router.classifier", source, "scores", ("choices", "h"), "router", self.router_bias)
        b.op("top_k", ("scores",), "routes", rows)
        copies: Axes = ("expert",)
        b.linear(up, source, "expert_up", (self.axis, "h"), "routed_experts", self.bias, rows, copies)
        b.op("activation", ("expert_up",), "expert_act", (*rows, self.axis))
        b.linear(down, "expert_act", "expert_out", ("h", self.axis), "routed_experts", self.bias, rows, copies)
        b.op("combine", ("expert_out", "routes"), "y", RESIDUAL)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' SwitchTransformersConfig or LongT5Config."""
    return _switch(c) if c.text("model_type") == "switch_transformers" else _longt5(c)


def _switch(c: Config) -> Architecture:
    """Experts stand in every STEP-th layer from the second on, STEP the layers of a stack over its sparse layers."""
    of = "SwitchTransformersConfig"
    sizes = axes(c, of)
    experts = c.number("num_experts", default=8, of=of)
    sizes |= {"expert": experts, "choices": experts, "topk": 1, "moe_ffn": sizes["ffn"]}
    layers = c.layers("num_hidden_layers", "num_layers")
    deep = c.layers("num_decoder_layers") if c.given("num_decoder_layers") else layers
    bias = c.flag("router_bias")
    encoder = _stack("encoder", _sparse(c, layers, "num_sparse_encoder_layers"), _reading(bias))
    decoder = _stack("decoder", _sparse(c, deep, "num_sparse_decoder_layers"), _writing(bias))
    return _both(c, "switch_transformers", sizes, encoder, decoder, BOTH_WAYS)


def _sparse(c: Config, layers: int, name: str) -> list[bool]:
    given = c.number(name, default=3, of="SwitchTransformersConfig", least=0)
    step = layers // given if given else layers
    return [step > 0 and (step == 1 or layer % step == 1) for layer in range(layers)]


def _stack(stack: str, sparse: list[bool], write: Callable[[Draft, bool, bool], None]) -> list[Block]:
    kinds = [f"{stack}{'' if layer else '-first'}{'-experts' if has else ''}" for layer, has in enumerate(sparse)]
    return by_kind(kinds, lambda b, kind: write(b, "-first" in kind, "-experts" in kind), f"{stack}.block.{{layer}}.")


def _mixture(which: int, experts: bool, bias: bool) -> Feed:
    prefix = f"layer.{which}.mlp."
    names = ("wi", "wo")
    return PlainExperts(prefix, names, router_bias=bias) if experts else Matrices(prefix, names, bias=False)


def _attention(name: str, first: bool) -> Projected:
    table = "relative_attention_bias.weight" if first else ""
    return Projected(f"layer.0.{name}.", NAMES, bias=False, o_bias=False, relative=table)


def _reading(bias: bool) -> Callable[[Draft, bool, bool], None]:
    norms = ("layer.0.layer_norm", "layer.1.layer_norm")

    def write(b: Draft, first: bool, experts: bool) -> None:
        Layer(_attention("SelfAttention", first), _mixture(1, experts, bias), norms, norm="rms").write(b, BOTH_WAYS)

    return write


def _writing(bias: bool) -> Callable[[Draft, bool, bool], None]:
    norms = ("layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm")
    cross = Cross("layer.1.EncDecAttention.", NAMES, bias=False)

    def write(b: Draft, first: bool, experts: bool) -> None:
        CrossLayer(_attention("SelfAttention", first), cross, _mixture(2, experts, bias), norms, "rms").write(b)

    return write


def _both(
    c: Config, family: str, sizes: dict[str, int], encoder: list[Block], decoder: list[Block], span: Span
) -> Architecture:
    """The two stacks over one table; a head of its own where the file ties nothing, as T5's checkpoints have it."""
    which = task(c, (HEAD, "EncoderModel", "Model"), HEAD)
    tied = c.flag("tie_word_embeddings", default=True)
    first = [SHARED.block(""), *encoder, end_of_encoder("encoder.final_layer_norm", "rms")]
    if which == "EncoderModel":
        return assemble(c, family, first, sizes, used(sizes), tied, [span])
    chains = ((Vocabulary("shared.weight", tied, "lm_head.weight"),),) if which == HEAD else ()
    c.notes.append(SAME_LENGTH)
    blocks = [*first, *decoder, head_block(chains, "decoder.final_layer_norm", "rms")]
    return assemble(c, family, blocks, sizes, used(sizes), tied, list(dict.fromkeys([span, BOTH_WAYS, Span()])))


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Attention to tokens nearby and, with `summaries`, to the mean of every block of so many tokens."""

    first: bool
    summaries: int

    def write(self, b: Draft, source: str, span: Span) -> None:
        """Add the attention, and the norm, keys, values and scores of the means."""
        kind = "TransientGlobalSelfAttention" if self.summaries else "LocalSelfAttention"
        local = _attention(kind, self.first)
        local.write(b, source, span)
        if not self.summaries:
            return
        if self.first:
            b.tensor(f"{local.prefix}global_relative_attention_bias.weight", ("buckets", "qh"), "position_embedding")
        b.norm(f"{local.prefix}global_input_layer_norm", source, "means", "rms")
        share = 2 / self.summaries
        weights = [f"{b.prefix}{local.prefix}{name}.weight" for name in ("k", "v")]
        b.op("linear", ("means",), "means.kv", RESIDUAL, ((2 * share, (*b.tokens, "h", "kv")),), weights)
        scores = ((2 * share, (*b.tokens, "s", "qh", "hd")),)
        b.op("attention_to_means", ("q", "means.kv"), "means.att", (*b.tokens, "q"), scores)


def _longt5(c: Config) -> Architecture:
    """Tokens see `local_radius` tokens on either side; the blocks of means are taken to divide the sequence."""
    of = "LongT5Config"
    sizes = axes(c, of)
    gated = is_gated(c, "relu")
    kind = c.text("encoder_attention_type") or "local"
    if kind not in ("local", "transient-global"):
        raise CannotAnswer(f"encoder_attention_type is {shown(kind)}, which is not described for LongT5")
    means = c.number("global_block_size", default=16, of=of) if kind == "transient-global" else 0
    span = Span(window=c.number("local_radius", default=127, of=of), both=True)
    layers = c.layers("num_hidden_layers", "num_layers")
    norms = ("layer.0.layer_norm", "layer.1.layer_norm")

    def write(b: Draft, kind: str) -> None:
        Layer(Neighbourhood(kind == "encoder-first", means), feed(1, gated), norms, norm="rms").write(b, span)

    encoder = by_kind(layer_kinds("encoder", layers, False), write, "encoder.block.{layer}.")
    deep = c.layers("num_decoder_layers") if c.given("num_decoder_layers") else layers
    return _both(c, "longt5", sizes, encoder, decoder_blocks(deep, gated, False), span)
