"""Thinking Machines' Inkling: windowed and full attention with learned distances, short convolutions, experts, two towers.

Tensor names are those of the published checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from operator import mul

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Cache, Span, Tensor, Terms
from advisor_mcp.anatomy.multimodal import joined
from advisor_mcp.anatomy.parts import RESIDUAL, TOKENS, Attention, Draft, Feed
from advisor_mcp.anatomy.sparse import (
    MLP_KINDS,
    Filled,
    Layer,
    Varied,
    dense_first,
    mixture_axes,
    stack,
    suffixed,
    varied_derived,
)
from advisor_mcp.anatomy.variants import Names, Order, StackedExperts
from advisor_mcp.errors import CannotAnswer, UsageError

MODEL_TYPES = ("inkling_mm_model",)
TEXT = {
    "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128, "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 16, "swa_head_dim": 128, "sliding_window_size": 512, "d_rel": 16, "rel_extent": 1024,
    "conv_kernel_size": 4, "intermediate_size": 24576, "moe_intermediate_size": 3072, "n_routed_experts": 256,
    "num_experts_per_tok": 6, "n_shared_experts": 2,
}  # fmt: skip
SPAN_KINDS = {"hybrid": "", "hybrid_sliding": "sliding"}
TAG = ".sliding"
TAGGED = ("qh", "kvh", "hd", "q", "k", "v", "out", "distances")
LAYER_NAMES = Names("model.llm.embed.weight", "model.llm.layers.{layer}.", "model.llm.norm", "model.llm.unembed")
EXPERTS = StackedExperts("mlp.gate", ("mlp.experts.w13_weight", "mlp.experts.w2_weight"))
LEAST_CHANNELS = 64  # the tower's widths are whole multiples of it


@dataclass(frozen=True, slots=True)
class Distances(Varied):
    """Grouped-query attention whose scores add a learned profile over distances, mixed by a product of each token.

    Keys and values pass through a short convolution, which keeps its last inputs.
    """

    def write(self, b: Draft, source: str, span: Span, prefix: str = "attn.") -> None:
        """Add the projections, convolutions, norms, the attention with its profile, and both kinds of state."""
        q, k, v = self.axis("q"), self.axis("k"), self.axis("v")
        for name, out, width in (("wq_du", "q", q), ("wk_dv", "k", k), ("wv_dv", "v", v)):
            b.linear(f"{prefix}{name}", source, out, (width, "h"), "attention")
        b.linear(f"{prefix}wr_du", source, "r", (self.axis("rel"), "h"), "attention")
        convolve(b, f"{prefix}k_sconv", "k", "kc", k, "attention")
        convolve(b, f"{prefix}v_sconv", "v", "vc", v, "attention")
        for value, read, wide in (("q", "q", q), ("k", "kc", k)):
            b.norm(
                f"{prefix}{value}_norm", read, f"{value}n", axis=self.axis("hd"), role="qk_norm", axes=(*TOKENS, wide)
            )
        heads, distances = self.axis("qh"), self.axis("distances")
        profile = b.tensor(f"{prefix}rel_logits_proj.proj", ("d_rel", distances), "attention")
        product: Terms = ((2, (*TOKENS, heads, "d_rel", distances)),)
        b.op("linear", ("r",), "bias", (*TOKENS, heads, distances), product, [profile])
        self.attend(b, source, span, ("qn", "kn", "vc", "bias"), prefix)


def convolve(b: Draft, name: str, source: str, out: str, channels: Axis, role: str) -> None:
    """A causal convolution over one channel each, added to its input; it keeps its last `kernel` inputs."""
    weight = b.tensor(f"{name}.weight", (channels, 1, "kernel"), role)
    b.op("conv", (source,), out, (*TOKENS, channels), ((2, (*TOKENS, channels, "kernel")),), [weight])
    b.caches.append(Cache("recurrent", fixed=((1, (channels, "kernel")),)))


@dataclass(frozen=True, slots=True)
class Convolved(Order):
    """A pre-norm layer whose updates pass through a short convolution each."""

    def write(self, b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
        """Add a whole layer."""
        b.norm("attn_norm", "x", "a")
        attention.write(b, "a", span)
        convolve(b, "attn_sconv", "o", "oc", "h", "attention")
        b.add("x", "oc", "r")
        b.norm("mlp_norm", "r", "m")
        feed.write(b, "m")
        convolve(b, "mlp_sconv", "y", "yc", "h", "mlp")
        b.add("r", "yc", "out")


class Dense:
    """A gated MLP in one tensor for gate and up, whose output one number scales."""

    def write(self, b: Draft, source: str) -> None:
        """Add both products, the gate and the scale."""
        b.linear("mlp.w13_dn", source, "gate_up", ("dense_gate_up", "h"), "mlp")
        b.op("gate", ("gate_up",), "act", (*TOKENS, "ffn"))
        b.linear("mlp.w2_md", "act", "ys", ("h", "ffn"), "mlp")
        b.op("scale", ("ys",), "y", RESIDUAL, weights=[b.tensor("mlp.global_scale", (1,), "mlp")])


class Shared:
    """Routed experts and shared ones, which the router weighs too; both are stacked."""

    def write(self, b: Draft, source: str) -> None:
        """Add the router, both sets of experts and their sum."""
        EXPERTS.write(b, source, "routed")
        scale = b.tensor("mlp.gate.global_scale", (1,), "router")
        prefix, rows = "mlp.shared_experts.", (*TOKENS, "shared")
        up = b.tensor(f"{prefix}shared_w13_weight", ("shared", "gate_up", "h"), "shared_expert", matrix=True)
        down = b.tensor(f"{prefix}shared_w2_weight", ("shared", "h", "moe_ffn"), "shared_expert", matrix=True)
        b.op("linear", (source,), "shared_up", (*rows, "gate_up"), ((2, (*rows, "h", "gate_up")),), [up])
        b.op("gate", ("shared_up", "scores"), "shared_act", (*rows, "moe_ffn"), weights=[scale])
        b.op("linear", ("shared_act",), "shared_out", (*rows, "h"), ((2, (*rows, "moe_ffn", "h")),), [down])
        b.op("add", ("routed", "shared_out"), "y", RESIDUAL)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' InklingConfig (5.23.0): text, images and sound."""
    text = c.part("text_config")
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    decoder = _decoder(c, Filled(text, "InklingTextConfig", TEXT))
    blocks: list[Block] = []
    missing = []
    sizes: dict[str, int] = {}
    for name, describe_tower in (("vision_config", _vision), ("audio_config", _audio)):
        part = c.part(name)
        blocks += describe_tower(part, decoder.sizes["h"], sizes) if part else []
        missing += [] if part else [f"the configuration has no {name}, so that tower is not counted"]
    return joined(c, "inkling_mm_model", decoder, blocks, sizes, {}, missing)


def _decoder(c: Config, f: Filled) -> Architecture:
    feeds, spans = _feeds(f), _spans(f)
    kinds = suffixed(feeds, spans)
    sizes = _axes(f) | {"vocab": f.number("vocab_size"), "kernel": f.number("conv_kernel_size", "sconv_kernel_size")}
    derived: dict[str, Terms] = varied_derived() | {"rel": ((1, ("qh", "d_rel")),)}
    if "sliding" in spans:
        derived |= varied_derived(TAG, TAGGED, f"hd{TAG}") | {f"rel{TAG}": ((1, (f"qh{TAG}", "d_rel")),)}
        sizes |= _windowed(f)
    else:
        sizes = {axis: size for axis, size in sizes.items() if not axis.endswith(TAG)}
    window = Span(window=sizes[f"distances{TAG}"]) if "sliding" in spans else Span()
    if "dense" in feeds:
        sizes["ffn"] = f.number("dense_intermediate_size", "intermediate_size")
        derived["dense_gate_up"] = ((2, ("ffn",)),)
    if "moe" in feeds:
        sizes |= _experts(f)
        derived["gate_up"] = ((2, ("moe_ffn",)),)
    table = {
        kind: Layer(
            Distances(TAG, (*TAGGED, "rel"), f"hd{TAG}") if kind.endswith("sliding") else Distances(),
            Dense() if kind.startswith("dense") else Shared(),
            window if kind.endswith("sliding") else Span(),
        )
        for kind in dict.fromkeys(kinds)
    }
    described = stack(
        c, "inkling_mm_model", kinds, table, sizes, derived, order=Convolved(), names=LAYER_NAMES, tied=False
    )
    return _with_norm(described, feeds, _missing(c, f))


def _with_norm(described: Architecture, feeds: list[str], missing: tuple[str, ...]) -> Architecture:
    """Add the norm of the embedding and the routers' biases, which count the routed experts alone."""
    first, *rest = described.blocks
    b = Draft("embedding", "model.llm.")
    b.tensors, b.ops, b.values = list(first.tensors), list(first.ops), dict(first.values)
    b.norm("embed_norm", "x", "xn")
    routed = tuple(index for index, feed in enumerate(feeds) if feed == "moe")
    bias = Tensor("model.llm.layers.{layer}.mlp.gate.bias", ("expert",), "router", dtype="fp32")
    beside = (Block("router biases", routed, (bias,)),) if routed else ()
    return replace(described, blocks=(b.block((0,)), *rest), beside=beside, not_described=missing)


def _missing(c: Config, f: Filled) -> tuple[str, ...]:
    mtp = c.part("mtp_config") or Config({}, notes=c.notes)
    found = f.number("num_mtp_layers", default=mtp.number("num_nextn_predict_layers", default=0, least=0), least=0)
    return (f"{found} prediction layer(s) that the checkpoint holds beside the model are not counted",) if found else ()


def _axes(f: Filled) -> dict[str, int]:
    sizes = {
        "h": f.number("hidden_size"),
        "qh": f.number("num_attention_heads"),
        "kvh": f.number("num_key_value_heads"),
        "hd": f.number("head_dim"),
        "d_rel": f.number("d_rel"),
        "distances": f.number("rel_extent"),
    }
    f.divides(sizes["qh"], sizes["kvh"], "the KV heads do not divide the attention heads")
    return sizes


def _windowed(f: Filled) -> dict[str, int]:
    sizes = {
        f"qh{TAG}": f.number("swa_num_attention_heads"),
        f"kvh{TAG}": f.number("swa_num_key_value_heads"),
        f"hd{TAG}": f.number("swa_head_dim"),
        f"distances{TAG}": f.number("sliding_window_size", "sliding_window"),
    }
    f.divides(sizes[f"qh{TAG}"], sizes[f"kvh{TAG}"], "the KV heads of windowed layers do not divide their heads")
    return sizes


def _experts(f: Filled) -> dict[str, int]:
    """The published files give the dense width its own name, and then intermediate_size is that of an expert."""
    width = "intermediate_size" if f.given("dense_intermediate_size") else "moe_intermediate_size"
    sizes = mixture_axes(f, shared=None, width=width)
    sizes["shared"] = f.number("n_shared_experts")
    return sizes | {"choices": sizes["expert"] + sizes["shared"]}


def _feeds(f: Filled) -> list[str]:
    layers = f.layers()
    listed = f.layer_kinds("mlp_layer_types", layers, MLP_KINDS)
    return listed or dense_first(f, f.number("dense_mlp_idx", default=0, least=0))


def _spans(f: Filled) -> list[str]:
    layers = f.layers()
    listed = f.layer_kinds("layer_types", layers, SPAN_KINDS)
    if listed is not None:
        return listed
    local = f.entries("local_layer_ids")
    if local is None:
        return ["sliding" if (index + 1) % 6 else "" for index in range(layers)]
    if any(not isinstance(index, int) or isinstance(index, bool) for index in local):
        raise UsageError(f"{f.prefix}local_layer_ids in the configuration must list layer numbers")
    windowed = set(local)
    return ["sliding" if index in windowed else "" for index in range(layers)]


def _audio(part: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    of = "InklingAudioConfig"
    sizes["audio.tokens"] = part.number("n_mel_bins", default=80, of=of) * part.number(
        "mel_vocab_size", default=256, of=of
    )
    b = Draft("audio-embedding", "model.audio.", ("recordings", "audio.frames"))
    table = b.tensor("encoder.weight", ("audio.tokens", text_width), "audio")
    b.op("lookup", ("sound",), "x", ("recordings", "audio.frames", text_width), weights=[table])
    b.norm("final_norm", "x", "y", "rms", text_width, "audio")
    return [b.block((0,), "audio")]


def _vision(part: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Products that each fold neighbouring pixels into more channels, up to one vector per patch."""
    v = Filled(
        part, "InklingVisionConfig", {"patch_size": 40, "temporal_patch_size": 2, "num_channels": 3, "n_layers": 24}
    )
    depth = v.number("n_layers", "num_hidden_layers")
    if depth > MOST_LAYERS:
        raise UsageError(f"{v.prefix}n_layers in the configuration is {depth}; at most {MOST_LAYERS} are described")
    patch, time, channels = v.number("patch_size"), v.number("temporal_patch_size"), v.number("num_channels")
    plan = plan_scales(patch, time, depth, channels)
    b = Draft("vision-tower", "model.visual.", ("images", "vision.patches"))
    source = "pixels"
    for index, (start, end) in enumerate(pairwise(plan)):
        folded = math.prod(end[:3]) // math.prod(start[:3])
        last = index == depth - 1
        made = text_width if last else end[3]
        rows: Axes = ("images", "vision.patches", math.prod(plan[-1][:3]) // math.prod(end[:3]))
        b.linear(f"layers.linear_{index}", source, f"x{index}", (made, start[3] * folded), "vision", tokens=rows)
        source = f"x{index}"
        if not last:
            b.norm(f"layers.norm_{index}", source, f"n{index}", "rms", made, "vision", (*rows, made))
            source = f"n{index}"
    b.norm("final_norm", source, "y", "rms", text_width, "vision")
    return [b.block((0,), "vision")]


Scale = tuple[int, int, int, int]


def plan_scales(patch: int, time: int, depth: int, channels: int) -> list[Scale]:
    """The (time, height, width, channels) before the first layer and after each, as transformers' class plans them.

    Candidates grow by the prime factors of the patch's side, then of its time; each layer takes the one whose logarithm is
    nearest to an even progression, every candidate at most once where there are more of them than layers.
    """
    candidates = _candidates(patch, time, channels)
    steps = [index * math.log(patch * patch * time * channels) / depth for index in range(depth + 1)]
    sizes = [math.log(math.prod(scale[:3])) for scale in candidates]
    if depth >= len(candidates):
        chosen = [min(range(len(sizes)), key=lambda i, step=step: abs(step - sizes[i])) for step in steps]  # type: ignore[misc]
    else:
        chosen = _nearest_once(steps, sizes)
    chosen[0], chosen[-1] = 0, len(candidates) - 1
    return [candidates[index] for index in chosen]


def _candidates(patch: int, time: int, channels: int) -> list[Scale]:
    sides = list(accumulate(reversed(_primes(patch)), mul))
    times = list(accumulate(reversed(_primes(time)), mul))
    if not sides:
        raise UsageError("vision_config.patch_size in the configuration must be at least 2")
    flat = [(1, side, side, -(-side * side * channels // LEAST_CHANNELS) * LEAST_CHANNELS) for side in sides]
    # the class multiplies by 64 here without dividing first
    deep = [(t, sides[-1], sides[-1], sides[-1] ** 2 * channels * t * LEAST_CHANNELS) for t in times]
    return [(1, 1, 1, channels), *flat, *deep]


def _primes(number: int) -> list[int]:
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return [*found, number] if number > 1 else found


def _nearest_once(steps: list[float], sizes: list[float]) -> list[int]:
    """The increasing choice of one candidate per step with the least total distance: the best assignment of sorted values."""
    best: list[tuple[float, list[int]]] = [(0.0, [])] * (len(sizes) + 1)
    for taken, step in enumerate(steps, start=1):
        reached: list[tuple[float, list[int]]] = [(math.inf, [])] * (len(sizes) + 1)
        for index in range(taken, len(sizes) + 1):
            cost, path = best[index - 1]
            with_it = (cost + abs(step - sizes[index - 1]), [*path, index - 1])
            reached[index] = min(reached[index - 1], with_it)
        best = reached
    return best[-1][1]
