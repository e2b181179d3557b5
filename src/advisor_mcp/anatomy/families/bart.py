"""BART and its kin, NLLB and Blenderbot among them: an encoder and a decoder with biases and LayerNorm, over one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    BOTH_WAYS,
    SAME_LENGTH,
    Chain,
    Cross,
    CrossLayer,
    Dense,
    Vocabulary,
    classify,
    end_of_encoder,
    head_block,
    task,
    with_labels,
)
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span, Terms
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Draft, assemble, by_kind
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = (
    "bart",
    "mbart",
    "pegasus",
    "marian",
    "m2m_100",
    "blenderbot",
    "blenderbot-small",
    "mvp",
    "plbart",
)
WITH_HEAD = ("ForConditionalGeneration", "MTModel")
NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")
Write = Callable[[Draft, str], None]
DERIVED: dict[str, Terms] = {"q.encoder": ((1, ("qh.encoder", "hd.encoder")),)}


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells them apart: the class, spare rows of positions, norms after embeddings, norms before parts.

    Layers that normalise before their parts leave the last sum to a norm of the stack. Without spare rows (None) positions
    are sines that nothing stores. `logits_bias` says whether the class keeps a bias of the logits, `labels` its default.
    """

    of: str
    spare_rows: int | None
    embedding_norm: bool
    pre_norm: bool
    logits_bias: bool = True
    labels: int = 2


KINDS = {
    "bart": Kind("BartConfig", 2, True, False, labels=3),
    "mbart": Kind("MBartConfig", 2, True, True),
    "pegasus": Kind("PegasusConfig", 0, False, True),
    "marian": Kind("MarianConfig", 0, False, False),
    "m2m_100": Kind("M2M100Config", None, False, True, logits_bias=False),
    "blenderbot": Kind("BlenderbotConfig", 0, False, True),
    "blenderbot-small": Kind("BlenderbotSmallConfig", 0, True, False),
    "mvp": Kind("MvpConfig", 2, True, False),
    "plbart": Kind("PLBartConfig", 2, True, False),
}


def describe(c: Config) -> Architecture:
    """A configuration of one of transformers' classes that `KINDS` names.

    The sinusoidal positions of Pegasus and Marian are parameters of the class, though nothing trains them.
    """
    family = c.text("model_type") or "bart"
    kind = KINDS[family]
    if c.flag("use_prompt"):
        raise CannotAnswer("use_prompt is set, and prompts inside the layers are not described for this model type")
    which = task(c, (*WITH_HEAD, "Model", "ForSequenceClassification", "ForQuestionAnswering"), WITH_HEAD[0])
    root = "" if which == "Model" else "model."
    shares = family != "marian" or c.flag("share_encoder_decoder_embeddings", default=True)
    tied = c.flag("tie_word_embeddings", default=True)
    sizes = stack_axes(c, kind, shares)
    tables = Tables(root, shares, tied)
    chains = _chains(which, tables)
    blocks = [
        tables.block(kind),
        *by_kind(["encoder"] * c.layers("num_hidden_layers", "encoder_layers"), _encoder(kind), f"{root}encoder.layers.{{layer}}."),
        *([end_of_encoder(f"{root}encoder.layer_norm")] if kind.pre_norm else []),
        *by_kind(["decoder"] * c.layers("decoder_layers"), _decoder(kind), f"{root}decoder.layers.{{layer}}."),
    ]  # fmt: skip
    if chains or kind.pre_norm:
        blocks.append(head_block(chains, f"{root}decoder.layer_norm" if kind.pre_norm else ""))
    c.notes.append(SAME_LENGTH)
    sizes = with_labels(c, sizes, chains, kind.labels)
    beside = (_logits_bias(tables.output_rows),) if which in WITH_HEAD and kind.logits_bias else ()
    return assemble(c, family, blocks, sizes, used(sizes, DERIVED), tied, [BOTH_WAYS, Span()], beside=beside)


def stack_axes(c: Config, kind: Kind, shares: bool) -> dict[str, int]:
    """The axes of both stacks; the encoder's heads and MLP may differ from the decoder's."""
    h, vocab = c.number("hidden_size", "d_model"), c.number("vocab_size")
    heads, inner = c.number("decoder_attention_heads"), c.number("num_attention_heads", "encoder_attention_heads")
    sizes = {
        "h": h, "qh": heads, "kvh": heads, "qh.encoder": inner, "vocab": vocab,
        "hd": c.divides(h, heads, "decoder_attention_heads does not divide d_model"),
        "hd.encoder": c.divides(h, inner, "encoder_attention_heads does not divide d_model"),
        "ffn": c.number("decoder_ffn_dim"), "ffn.encoder": c.number("encoder_ffn_dim"),
    }  # fmt: skip
    if kind.spare_rows is not None:
        sizes["positions"] = c.number("max_position_embeddings", default=1024, of=kind.of) + kind.spare_rows
    return sizes if shares else sizes | {"vocab.decoder": c.number("decoder_vocab_size", default=vocab)}


def _encoder(kind: Kind) -> Write:
    attention = Projected(names=NAMES, axes=("q.encoder", "qh.encoder", "hd.encoder"))
    norms = ("self_attn_layer_norm", "final_layer_norm")
    layer = Layer(attention, Matrices("", axis="ffn.encoder"), norms, "pre" if kind.pre_norm else "post")
    return lambda b, _: layer.write(b, BOTH_WAYS)


def _decoder(kind: Kind) -> Write:
    norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    cross = Cross("encoder_attn.", NAMES, bias=True)
    layer = CrossLayer(Projected(names=NAMES), cross, Matrices(""), norms, post=not kind.pre_norm)
    return lambda b, _: layer.write(b)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of tokens: one that everything shares, or one for each stack (not shared, or not tied)."""

    root: str
    shares: bool
    tied: bool

    @property
    def output_rows(self) -> Axis:
        """The axis of the vocabulary that the head predicts."""
        return "vocab" if self.shares else "vocab.decoder"

    def block(self, kind: Kind) -> Block:
        """Both embeddings: tokens, positions and, where the kind has them, norms."""
        b = Draft("embedding", self.root)
        b.value("ids", TOKENS, "int")
        if self.shares:
            b.tensor("shared.weight", ("vocab", "h"), "token_embedding")
        for stack in ("encoder", "decoder"):
            self._stack(b, stack, kind)
        return b.block((0,))

    def _stack(self, b: Draft, stack: str, kind: Kind) -> None:
        rows = self.output_rows if stack == "decoder" else "vocab"
        table = f"{self.root}shared.weight"
        if not (self.shares and self.tied):
            table = b.tensor(f"{stack}.embed_tokens.weight", (rows, "h"), "token_embedding")
        weights = [table]
        if kind.spare_rows is not None:
            name = f"{stack}.embed_positions.weight"
            weights.append(b.tensor(name, ("positions", "h"), "position_embedding"))
        b.op("lookup", ("ids",), f"{stack}.e", RESIDUAL, weights=weights)
        if kind.embedding_norm:
            b.norm(f"{stack}.layernorm_embedding", f"{stack}.e", f"{stack}.x", "layer")

    @property
    def tied_to(self) -> str:
        """What a tied head multiplies with."""
        return f"{self.root}shared.weight" if self.shares else f"{self.root}decoder.embed_tokens.weight"


def _chains(which: str, tables: Tables) -> tuple[Chain, ...]:
    if which in WITH_HEAD:
        return ((Vocabulary(tables.tied_to, tables.tied, "lm_head.weight", rows=tables.output_rows),),)
    head = "classification_head."
    if which == "ForSequenceClassification":
        return ((Dense(f"{head}dense", pooled=True), classify(f"{head}out_proj")),)
    return ((classify("qa_outputs", pooled=False),),) if which == "ForQuestionAnswering" else ()


def _logits_bias(rows: Axis) -> Block:
    """A buffer of the class that its checkpoints hold."""
    b = Draft("logits-bias")
    b.tensor("final_logits_bias", (1, rows), "other")
    return b.block((0,))
