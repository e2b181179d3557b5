"""Gemma 4: heads of another size in full layers, shared or equal keys and values, per-layer embeddings, experts beside the MLP."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy import towers_gemma
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Block, Span, Terms
from advisor_mcp.anatomy.multimodal import filled, with_fields
from advisor_mcp.anatomy.nested import text_part, tie
from advisor_mcp.anatomy.parts import RESIDUAL, Draft, Experts, Gated, assemble, by_kind, expert_axes, head_block
from advisor_mcp.anatomy.sharing import LAYER_KINDS, PER_LAYER, Normed, add_per_layer, borrowing, embed, unused
from advisor_mcp.errors import UsageError

MODEL_TYPES = ("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text")
READS_PER_LAYER_CONFIG = True
OF = "Gemma4TextConfig"
DEFAULTS = {
    "vocab_size": 262_144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 512, "hidden_size_per_layer_input": 256,
}  # fmt: skip
EXPERTS = Experts(router="router.proj", prefix="experts.", layout="stacked_out_in")


def describe(c: Config) -> Architecture:
    """A configuration of transformers' Gemma4Config (text, vision and audio), Gemma4UnifiedConfig, or of their text alone."""
    family = c.text("model_type") or "gemma4"
    if family.endswith("_text"):
        c.number("hidden_size")
        return _decoder(_text(c, family), family, "model.", c.flag("tie_word_embeddings", default=True))
    text = text_part(c)
    inner = _decoder(_text(text, family), family, "model.language_model.", tie(c, text, default=True))
    vision, audio = c.part("vision_config"), c.part("audio_config")
    sizes: dict[str, int] = {}
    build = towers_gemma.unified if family == "gemma4_unified" else _towers
    blocks, beside = build(vision, audio, inner.sizes["h"], sizes)
    return replace(
        inner,
        blocks=(*blocks, *inner.blocks),
        beside=(*inner.beside, *beside),
        sizes={**inner.sizes, **sizes},
        notes=tuple(c.notes),
    )


def _text(c: Config, family: str) -> Config:
    """The decoder's fields with its class's defaults; the unified model has no per-layer embeddings and no experts."""
    if not family.startswith("gemma4_unified"):
        return filled(c, OF, DEFAULTS)
    c = with_fields(c, hidden_size_per_layer_input=0, enable_moe_block=False)
    return filled(c, "Gemma4UnifiedTextConfig", DEFAULTS | {"sliding_window": 1024})


def _towers(
    vision: Config | None, audio: Config | None, width: int, sizes: dict[str, int]
) -> tuple[list[Block], tuple[Block, ...]]:
    blocks = towers_gemma.gemma4_vision(vision, width, sizes) if vision else []
    blocks += towers_gemma.gemma4_audio(audio, width, sizes) if audio else []
    return blocks, towers_gemma.gemma4_buffers(vision, audio, sizes)


@dataclass(frozen=True, slots=True)
class Row:
    """What sets one layer apart: which tokens it sees, its heads, and the width of its MLP."""

    reach: str
    attention: Normed
    ffn: str

    @property
    def name(self) -> str:
        """The name of its kind of layer."""
        return f"{self.reach}{self.attention.variant}{'-shared' if self.attention.borrowed else ''}-{self.ffn}"


def _decoder(c: Config, family: str, root: str, tied: bool) -> Architecture:
    layers = c.layers()
    reach = _reach(c, layers)
    sizes, derived = _sizes(c, layers), dict[str, Terms]()
    rows = _rows(c, reach, sizes, derived)
    spans = {"full": Span(), "sliding": Span(window=_window(c))}
    experts = c.flag("enable_moe_block")
    if experts:
        sizes |= expert_axes(with_fields(c, num_experts_per_tok=c.number("top_k_experts")), "num_experts")
        derived["gate_up"] = ((2, ("moe_ffn",)),)
    described = {row.name: row for row in rows}

    def layer(b: Draft, kind: str) -> None:
        row = described[kind]
        _layer(b, row.attention, spans[row.reach], Gated(axis=row.ffn), experts, "ple" in sizes)

    prefix = f"{root}layers.{{layer}}."
    embedding = Draft("embedding")
    embed(embedding, root, "ple" in sizes)
    head = head_block(f"{root}embed_tokens.weight", tied, f"{root}norm")
    blocks = [embedding.block((0,)), *by_kind([row.name for row in rows], layer, prefix), head]
    beside = (
        *unused("keys and values of layers that share", [r.attention for r in rows], prefix),
        _scalars(prefix, layers),
    )
    used = [spans[kind] for kind in dict.fromkeys(reach)]
    return assemble(c, family, blocks, sizes, derived, tied, used, beside=beside)


def _reach(c: Config, layers: int) -> list[str]:
    listed = c.layer_kinds("layer_types", layers, LAYER_KINDS)
    reach = listed or ["sliding" if (index + 1) % 6 else "full" for index in range(layers)]
    return [*reach[:-1], "full"]  # the class sets the last layer so, whatever the file says


def _window(c: Config) -> int:
    window = c.number("sliding_window")
    return window // 2 + 1 if c.data.get("use_bidirectional_attention") == "all" else window


def _sizes(c: Config, layers: int) -> dict[str, int]:
    sizes = {"h": c.number("hidden_size"), "qh": c.number("num_attention_heads"), "vocab": c.number("vocab_size")}
    sizes |= {"ffn": c.number("intermediate_size"), "layers": layers}
    ple = c.number("hidden_size_per_layer_input", least=0)
    if not ple:
        return sizes
    return sizes | {"ple": ple, "ple_vocab": c.number("vocab_size_per_layer_input", default=262_144, of=OF)}


def _rows(c: Config, reach: list[str], sizes: dict[str, int], derived: dict[str, Terms]) -> list[Row]:
    bias, same, wide = c.flag("attention_bias"), c.flag("attention_k_eq_v"), c.flag("use_double_wide_mlp")
    if "ple" in sizes:
        derived["ple_all"] = PER_LAYER
    if wide:
        sizes["ffn.wide"] = 2 * sizes["ffn"]
    variants = _variants(c, reach, sizes, derived)
    return [
        Row(
            kind,
            Normed(bias, borrowed, same and kind == "full", variant),
            "ffn.wide" if wide and borrowed else "ffn",
        )
        for kind, borrowed, variant in zip(reach, borrowing(c, reach, 0, OF), variants, strict=True)
    ]


def _variants(c: Config, reach: list[str], sizes: dict[str, int], derived: dict[str, Terms]) -> list[str]:
    """The variant of the head axes for each layer; adds their sizes."""
    heads = _heads(c, reach)
    plain = (c.number("head_dim"), c.number("num_key_value_heads"))
    others = [pair for pair in dict.fromkeys(heads) if pair != plain]
    names = {plain: ""} | {pair: ".global" if at == 0 else f".global{at}" for at, pair in enumerate(others)}
    for (hd, kvh), variant in names.items():
        if (hd, kvh) != plain or plain in heads:
            c.divides(sizes["qh"], kvh, "the KV heads do not divide the attention heads")
            sizes |= {f"hd{variant}": hd, f"kvh{variant}": kvh}
            derived[f"q{variant}"] = ((1, ("qh", f"hd{variant}")),)
            derived[f"kv{variant}"] = ((1, (f"kvh{variant}", f"hd{variant}")),)
    return [names[pair] for pair in heads]


def _heads(c: Config, reach: list[str]) -> list[tuple[int, int]]:
    """Head size and KV heads of each layer: full layers have their own, which files name in one of two ways."""
    hd, kvh = c.number("head_dim"), c.number("num_key_value_heads")
    if "per_layer_config" in c.data:
        return [_overridden(c, index, hd, kvh) for index in range(len(reach))]
    wide = c.number("global_head_dim", default=512, of=OF if "full" in reach else None)
    few = c.optional("num_global_key_value_heads") if c.flag("attention_k_eq_v") else None
    return [(wide, few or kvh) if kind == "full" else (hd, kvh) for kind in reach]


def _overridden(c: Config, index: int, hd: int, kvh: int) -> tuple[int, int]:
    layers = c.part("per_layer_config")
    # transformers pads the layer numbers to one width
    own = layers.part(*(str(index).zfill(width) for width in range(1, 5))) if layers else None
    if own is None:
        return hd, kvh
    unknown = sorted(set(own.data) - {"head_dim", "num_key_value_heads"})
    if unknown:
        raise UsageError(
            f"{own.prefix}{unknown[0]} in the configuration is not a field that one layer of Gemma 4 can change"
        )
    return own.number("head_dim", default=hd), own.number("num_key_value_heads", default=kvh)


def _layer(b: Draft, attention: Normed, span: Span, mlp: Gated, experts: bool, per_layer: bool) -> None:
    b.norm("input_layernorm", "x", "a")
    attention.write(b, "a", span)
    b.norm("post_attention_layernorm", "o", "on")
    b.add("x", "on", "r")
    b.norm("pre_feedforward_layernorm", "r", "m")
    mlp.write(b, "m")
    if experts:
        _experts(b)
    b.norm("post_feedforward_layernorm", "both" if experts else "y", "yn")
    b.add("r", "yn", "r2" if per_layer else "out")
    if per_layer:
        add_per_layer(b, "r2", "pn")
        b.add("r2", "pn", "out")


def _experts(b: Draft) -> None:
    """Routed experts that read the same residual as the MLP; a scale of the router's input and one of each expert."""
    b.norm("post_feedforward_layernorm_1", "y", "y1")
    scale = b.tensor("router.scale", ("h",), "router")
    b.op("norm", ("r",), "rs", RESIDUAL, weights=[scale])
    b.norm("pre_feedforward_layernorm_2", "r", "m2")
    b.tensor("router.per_expert_scale", ("choices",), "router")
    EXPERTS.write(b, "m2", "y2", routed_by="rs")
    b.norm("post_feedforward_layernorm_2", "y2", "y2n")
    b.add("y1", "y2n", "both")


def _scalars(prefix: str, layers: int) -> Block:
    b = Draft("layer scalars", prefix)
    b.tensor("layer_scalar", (1,), "other")
    return b.block(tuple(range(layers)))
