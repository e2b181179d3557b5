"""GPT-Neo: learned positions, and layers that see everything or the last `window_size` tokens in turn."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, four_times, heads_of, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Draft, assemble, by_kind, embedding_block, head_block
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("gpt_neo",)
WTE, WPE = "transformer.wte.weight", "transformer.wpe.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' GPTNeoConfig.

    Its local layers mask what is older than the window but keep it in their cache, so the cache has no cap.
    """
    kinds = _kinds(c, c.layers("num_hidden_layers", "num_layers"))
    sizes = four_times(c, heads_of(c, heads=("num_attention_heads", "num_heads")), "intermediate_size")
    sizes |= {
        "vocab": c.number("vocab_size"),
        "positions": c.number("max_position_embeddings", default=2048, of="GPTNeoConfig"),
    }
    spans = {"global": Span(), "local": Span(window=c.number("window_size", default=256, of="GPTNeoConfig"))}
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention = Projected("attn.attention.", names, bias=False, cached=Span())
    layer = Layer(attention, Matrices(names=("c_fc", "c_proj")), ("ln_1", "ln_2"))

    def write(b: Draft, kind: str) -> None:
        layer.write(b, spans[kind])

    tied = c.flag("tie_word_embeddings", default=True)
    blocks = [
        embedding_block(WTE, WPE),
        *by_kind(kinds, write, "transformer.h.{layer}."),
        head_block(WTE, tied, "transformer.ln_f", "layer"),
    ]
    return assemble(c, "gpt_neo", blocks, sizes, used(sizes), tied, [spans[kind] for kind in dict.fromkeys(kinds)])


def _kinds(c: Config, layers: int) -> list[str]:
    """The kind of every layer, from pairs of a pattern and how often it repeats, or from the list of layers."""
    pairs = c.entries("attention_types")
    if pairs is None:
        listed = c.layer_kinds("attention_layers", layers, {"global": "global", "local": "local"})
        if listed is None:
            raise CannotAnswer(
                "the configuration has no attention_types, which this model type needs", needs=["attention_types"]
            )
        return listed
    kinds: list[str] = []
    for pair in pairs:
        pattern, times = _pair(pair)
        if max(len(pattern), 1) * times > layers:
            raise UsageError(f"attention_types in the configuration names more kinds than its {layers} layers")
        kinds.extend(pattern * times)
    if len(kinds) != layers:
        raise UsageError(f"attention_types in the configuration names {len(kinds)} kinds for {layers} layers")
    return kinds


def _pair(pair: object) -> tuple[list[str], int]:
    match pair:
        case [list(pattern), int(times)] if times >= 0 and not isinstance(times, bool):
            if all(isinstance(kind, str) and kind in ("global", "local") for kind in pattern):
                return pattern, times
    raise UsageError(
        f'attention_types in the configuration must list pairs like [["global", "local"], 12], not {shown(pair)}'
    )
