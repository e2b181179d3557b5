"""T5, mT5 and UMT5: an encoder and a decoder with RMSNorm, biases by distance instead of positions, plain or gated MLPs."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, heads_of, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    BOTH_WAYS,
    SAME_LENGTH,
    Cross,
    CrossLayer,
    Embedding,
    Table,
    Vocabulary,
    end_of_encoder,
    head_block,
    task,
)
from advisor_mcp.anatomy.inventory import Architecture, Block, Span
from advisor_mcp.anatomy.parts import Draft, assemble, by_kind
from advisor_mcp.errors import UsageError, shown

MODEL_TYPES = ("t5", "mt5", "umt5")
CLASSES = {"t5": "T5Config", "mt5": "MT5Config", "umt5": "UMT5Config"}
WITH_HEAD = ("ForConditionalGeneration", "WithLMHeadModel")
SHARED = Embedding((Table("shared.weight", "vocab", "token_embedding"),))
NAMES = ("q", "k", "v", "o")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' T5Config, MT5Config or UMT5Config.

    The classes tie the head whatever the file says, but the checkpoints of files that say no (T5 1.1, Flan, mT5) hold one.
    """
    family = c.text("model_type") or "t5"
    which = task(c, (*WITH_HEAD, "EncoderModel", "Model"), "ForConditionalGeneration")
    of = CLASSES[family]
    sizes = axes(c, of)
    gated = is_gated(c, "relu" if family == "t5" else "gated-gelu")
    layers = c.layers("num_hidden_layers", "num_layers")
    every = family == "umt5"
    encoder = [*_encoder(layers, gated, every), end_of_encoder("encoder.final_layer_norm", "rms")]
    tied = c.flag("tie_word_embeddings", default=True)
    if which == "EncoderModel":
        return assemble(c, family, [SHARED.block(""), *encoder], sizes, used(sizes), tied, [BOTH_WAYS])
    decoder = decoder_blocks(c.layers("num_decoder_layers") if c.given("num_decoder_layers") else layers, gated, every)
    head = ((Vocabulary("shared.weight", tied, "lm_head.weight"),),) if which in WITH_HEAD else ()
    blocks = [SHARED.block(""), *encoder, *decoder, head_block(head, "decoder.final_layer_norm", "rms")]
    c.notes.append(SAME_LENGTH)
    return assemble(c, family, blocks, sizes, used(sizes), tied, [BOTH_WAYS, Span()])


def axes(c: Config, of: str) -> dict[str, int]:
    """The axes of a T5; its heads may be wider or narrower than the model together."""
    sizes = heads_of(
        c, ("hidden_size", "d_model"), ("num_attention_heads", "num_heads"),
        head_dim=c.number("head_dim", "d_kv", default=64, of=of),
    )  # fmt: skip
    return sizes | {
        "ffn": c.number("d_ff"),
        "vocab": c.number("vocab_size"),
        "buckets": c.number("relative_attention_num_buckets", default=32, of=of),
    }


def is_gated(c: Config, otherwise: str) -> bool:
    """Whether feed_forward_proj is "gated-ACTIVATION"; the other form is the activation alone."""
    given = c.text("feed_forward_proj") or otherwise
    parts = given.split("-")
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "gated"):
        raise UsageError(
            f"feed_forward_proj in the configuration must be an activation or gated-ACTIVATION, not {shown(given)}"
        )
    return parts[0] == "gated"


def feed(which: int, gated: bool) -> Matrices:
    """The feed-forward part of a layer, whose part number `which` it is."""
    prefix = f"layer.{which}.DenseReluDense."
    return (
        Matrices(prefix, ("wi_1", "wo"), bias=False, gate="wi_0")
        if gated
        else Matrices(prefix, ("wi", "wo"), bias=False)
    )


def _self_attention(first: bool) -> Projected:
    relative = "relative_attention_bias.weight" if first else ""
    return Projected("layer.0.SelfAttention.", NAMES, bias=False, o_bias=False, relative=relative)


def _encoder(layers: int, gated: bool, every: bool) -> list[Block]:
    norms = ("layer.0.layer_norm", "layer.1.layer_norm")

    def write(b: Draft, kind: str) -> None:
        Layer(_self_attention(kind == "encoder-first"), feed(1, gated), norms, norm="rms").write(b, BOTH_WAYS)

    return by_kind(layer_kinds("encoder", layers, every), write, "encoder.block.{layer}.")


def decoder_blocks(layers: int, gated: bool, every: bool) -> list[Block]:
    """The decoder's layers, of which the first or `every` one has a table of distances."""
    cross = Cross("layer.1.EncDecAttention.", NAMES, bias=False)
    norms = ("layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm")

    def write(b: Draft, kind: str) -> None:
        CrossLayer(_self_attention(kind == "decoder-first"), cross, feed(2, gated), norms, "rms").write(b)

    return by_kind(layer_kinds("decoder", layers, every), write, "decoder.block.{layer}.")


def layer_kinds(stack: str, layers: int, every: bool) -> list[str]:
    """The first layer's table serves all, except in UMT5, where `every` layer has one."""
    first = f"{stack}-first"
    return [first] * layers if every else [first, *[stack] * (layers - 1)]
