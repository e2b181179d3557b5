"""LED and BigBirdPegasus: BART's and Pegasus's stacks with Longformer's or BigBird's attention in the encoder."""

from __future__ import annotations

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
from advisor_mcp.anatomy.families.bart import DERIVED, NAMES, Kind, stack_axes
from advisor_mcp.anatomy.families.sparse_bert import Global, dense_up_to, windows
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, assemble, by_kind
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("led", "bigbird_pegasus")
HEAD = "ForConditionalGeneration"
READS: tuple[Axis, Axis, Axis] = ("q.encoder", "qh.encoder", "hd.encoder")
READ_NORMS = ("self_attn_layer_norm", "final_layer_norm")
WRITE_NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LEDConfig or BigBirdPegasusConfig."""
    which = task(c, (HEAD, "Model"), HEAD)
    return (_led if c.text("model_type") == "led" else _bigbird_pegasus)(c, which)


def _led(c: Config, which: str) -> Architecture:
    root, of = ("led." if which == HEAD else ""), "LEDConfig"
    sizes = stack_axes(c, Kind(of, None, True, False), True)
    sizes["positions"] = c.number("max_decoder_position_embeddings", default=1024, of=of)
    sizes["positions.encoder"] = c.number("max_encoder_position_embeddings", default=16384, of=of)
    sides = windows(c, c.layers("num_hidden_layers", "encoder_layers"), of)
    spans = {f"encoder-{window}": Span(window=window // 2, both=True) for window in sides}
    prefix = "self_attn.longformer_self_attn."
    names = ("longformer_self_attn.query", "longformer_self_attn.key", "longformer_self_attn.value", "output")
    local = Projected("self_attn.", names, axes=READS)
    layer = Layer(Global(local, prefix), Matrices("", axis="ffn.encoder"), READ_NORMS, "post")
    encoder = by_kind(
        [f"encoder-{window}" for window in sides],
        lambda b, kind: layer.write(b, spans[kind]),
        f"{root}encoder.layers.{{layer}}.",
    )
    c.notes.append("attention is counted for tokens with a window alone, without any that see the whole sequence")
    tables = _tables(c, root, "positions.encoder", True)
    return _both(c, "led", which, root, sizes, [tables, *encoder], [*spans.values()], True, "")


def _bigbird_pegasus(c: Config, which: str) -> Architecture:
    """Block-sparse attention falls back to full attention for short sequences, as which it is counted."""
    root, of = ("model." if which == HEAD else ""), "BigBirdPegasusConfig"
    kind = c.text("attention_type") or "block_sparse"
    if kind not in ("block_sparse", "original_full"):
        raise CannotAnswer(f"attention_type is {shown(kind)}, which is not described for BigBirdPegasus")
    sizes = stack_axes(c, Kind(of, None, False, True), True)
    sizes["positions"] = c.number("max_position_embeddings", default=4096, of=of)
    if kind == "block_sparse":
        c.notes.append(f"attention is counted as full, as the class runs it up to {dense_up_to(c)} tokens")
    bias = c.flag("use_bias")
    names = ("self.query", "self.key", "self.value", "output")
    layer = Layer(
        Projected("self_attn.", names, "", bias, bias, axes=READS), Matrices("", axis="ffn.encoder"), READ_NORMS
    )
    layers = ["encoder"] * c.layers("num_hidden_layers", "encoder_layers")
    encoder = by_kind(layers, lambda b, _: layer.write(b, BOTH_WAYS), f"{root}encoder.layers.{{layer}}.")
    first = [_tables(c, root, "positions", False), *encoder, end_of_encoder(f"{root}encoder.layernorm_embedding")]
    return _both(c, "bigbird_pegasus", which, root, sizes, first, [], bias, f"{root}decoder.layernorm_embedding")


def _tables(c: Config, root: str, read: Axis, norm: bool) -> Block:
    """Tokens and positions of both stacks; untied stacks hold tokens of their own beside the shared ones."""
    b = Draft("embedding", root)
    b.value("ids", TOKENS, "int")
    shared = b.tensor("shared.weight", ("vocab", "h"), "token_embedding")
    tied = c.flag("tie_word_embeddings", default=True)
    for stack, rows in (("encoder", read), ("decoder", "positions")):
        name = f"{stack}.embed_tokens.weight"
        words = shared if tied else b.tensor(name, ("vocab", "h"), "token_embedding")
        places = b.tensor(f"{stack}.embed_positions.weight", (rows, "h"), "position_embedding")
        b.op("lookup", ("ids",), f"{stack}.e", RESIDUAL, weights=[words, places])
        if norm:
            b.norm(f"{stack}.layernorm_embedding", f"{stack}.e", f"{stack}.x", "layer")
    return b.block((0,))


def _both(
    c: Config, family: str, which: str, root: str, sizes: dict[str, int], first: list[Block], spans: list[Span],
    bias: bool, end: str,
) -> Architecture:  # fmt: skip
    """The decoder and the head behind the encoder; with a norm at the `end`, its layers normalise before their parts."""
    cross = Cross("encoder_attn.", NAMES, bias)
    layer = CrossLayer(Projected("self_attn.", NAMES, "", bias, bias), cross, Matrices(""), WRITE_NORMS, post=not end)
    layers = ["decoder"] * c.layers("decoder_layers")
    decoder = by_kind(layers, lambda b, _: layer.write(b), f"{root}decoder.layers.{{layer}}.")
    tied = c.flag("tie_word_embeddings", default=True)
    head = ((Vocabulary(f"{root}shared.weight", tied, "lm_head.weight"),),) if which == HEAD else ()
    c.notes.append(SAME_LENGTH)
    blocks = [*first, *decoder, *([head_block(head, end)] if head or end else [])]
    spans = list(dict.fromkeys([*spans, BOTH_WAYS, Span()]))
    beside = (_logits_bias(),) if which == HEAD else ()
    return assemble(c, family, blocks, sizes, used(sizes, DERIVED), tied, spans, beside=beside)


def _logits_bias() -> Block:
    """A buffer of the class that its checkpoints hold."""
    b = Draft("logits-bias")
    b.tensor("final_logits_bias", (1, "vocab"), "other")
    return b.block((0,))
