"""Vision towers and the projectors that join them to a decoder.

Their axes carry the prefix `vision.` (`audio.` for the encoders of sound that share their layer). Tensors have the shapes of
the checkpoint, convolutions included. How many images there are is a workload's, so `images` has no size here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.multimodal import filled, with_fields
from advisor_mcp.anatomy.parts import Draft, Norm
from advisor_mcp.errors import CannotAnswer, UsageError, shown

PATCHES: Axes = ("images", "vision.patches")
TOKENS: Axes = ("images", "vision.tokens")


@dataclass(frozen=True, slots=True)
class Layer:
    """What a tower calls the parts of its layers, and which they are.

    `norms` are before and after attention and before and after the MLP ("" for none). `bias` is of q, k, v and out;
    `feed` names two matrices, or three of a gated MLP, with a bias each where `feed_bias` says so. `scales` are factors of
    the two branches, over `scale_axis`. `suffix` stands between the name of a matrix and ".weight". `by_part` counts its
    tensors as attention, MLP and norms, where the tower is a model's encoder and not an addition to a decoder.
    """

    norms: tuple[str, str, str, str]
    projections: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention: str = "self_attn."
    feed: tuple[str, ...] = ("mlp.fc1", "mlp.fc2")
    norm: Norm = "layer"
    bias: tuple[bool, bool, bool, bool] = (True, True, True, True)
    feed_bias: tuple[bool, ...] = (True, True, True)
    qk_norm: Axis | None = None
    scales: tuple[str, str] | None = None
    scale_axis: Axis = 1
    suffix: str = ""
    tower: str = "vision"
    by_part: bool = False

    def role(self, part: str) -> str:
        """What a part counts as: the tower, or with `by_part` what it is in any transformer."""
        return part if self.by_part else self.tower

    def axis(self, name: str) -> str:
        """An axis of this tower."""
        return f"{self.tower}.{name}"

    def block(self, name: str, prefix: str, layers: int, tokens: Axes = PATCHES) -> Block:
        """The block of `layers` such layers, whose names start with `prefix`."""
        b = Draft(name, prefix, tokens)
        b.value("x", (*tokens, self.axis("h")))
        self._attend(b)
        self._feed(b)
        return b.block(tuple(range(layers)), self.tower)

    def _norm(self, b: Draft, which: int, source: str, out: str) -> str:
        if not self.norms[which]:
            return source
        b.norm(self.norms[which], source, out, self.norm, self.axis("h"), self.role("norm"))
        return out

    def _scale(self, b: Draft, which: int, source: str, out: str) -> str:
        if self.scales is None:
            return source
        weight = b.tensor(self.scales[which], (self.scale_axis,), self.tower)
        b.op("scale", (source,), out, b.values[source].axes, weights=[weight])
        return out

    def _attend(self, b: Draft) -> None:
        source = self._norm(b, 0, "x", "a")
        h, q, kv = self.axis("h"), self.axis("q"), self.axis("kv")
        for name, out, width, bias in zip(self.projections, "qkv", (q, kv, kv), self.bias, strict=False):
            b.linear(f"{self.attention}{name}{self.suffix}", source, out, (width, h), self.role("attention"), bias)
        reads = ["q", "k", "v"]
        if self.qk_norm is not None:
            for at, width in ((0, q), (1, kv)):
                name = reads[at]
                b.norm(
                    f"{self.attention}{name}_norm",
                    name,
                    f"{name}n",
                    "rms",
                    self.qk_norm,
                    self.tower,
                    (*b.tokens, width),
                )
                reads[at] = f"{name}n"
        b.op("attention", reads, "att", (*b.tokens, q), ((4, (*b.tokens, b.tokens[-1], q)),))
        last = f"{self.attention}{self.projections[3]}{self.suffix}"
        b.linear(last, "att", "o", (h, q), self.role("attention"), self.bias[3])
        b.add("x", self._scale(b, 0, self._norm(b, 1, "o", "on"), "os"), "r")

    def _feed(self, b: Draft) -> None:
        source = self._norm(b, 2, "r", "m")
        h, ffn = self.axis("h"), self.axis("ffn")
        *ups, down = (f"{name}{self.suffix}" for name in self.feed)
        outs = ["gate", "up"] if len(ups) == 2 else ["up"]
        for name, out, bias in zip(ups, outs, self.feed_bias, strict=False):
            b.linear(name, source, out, (ffn, h), self.role("mlp"), bias)
        b.op("gate" if len(ups) == 2 else "activation", outs, "act", (*b.tokens, ffn))
        b.linear(down, "act", "y", (h, ffn), self.role("mlp"), self.feed_bias[len(ups)])
        b.add("r", self._scale(b, 1, self._norm(b, 3, "y", "yn"), "ys"), "out")


def convolve(
    b: Draft, name: str, source: str, out: str, axes: Axes, role: str, tokens: Axes, bias: bool = False
) -> None:  # fmt: skip
    """A convolution with a weight of shape (out, in, kernel ...) over `tokens` output positions."""
    weights = [b.tensor(f"{name}.weight", axes, role, matrix=True)]
    if bias:
        weights.append(b.tensor(f"{name}.bias", axes[:1], role))
    b.op("convolution", (source,), out, (*tokens, axes[0]), ((2, (*tokens, *axes)),), weights)


def vit_axes(c: Config, sizes: dict[str, int], heads: Sequence[str] = ("num_attention_heads",)) -> Axes:
    """Adds the axes of a tower of square patches to `sizes`; returns the shape of its patch convolution."""
    side, patch, count = c.number("image_size"), c.number("patch_size"), c.number(*heads)
    h, patches = c.number("hidden_size"), (side // patch) ** 2
    sizes |= {"vision.h": h, "vision.ffn": c.number("intermediate_size"), "vision.qkv": 3 * h}
    sizes |= {"vision.patches": patches, "vision.tokens": patches + 1}
    attention_axes(c, sizes, "vision", count)
    return ("vision.h", c.number("num_channels", default=3), patch, patch)


def attention_axes(c: Config, sizes: dict[str, int], tower: str, heads: int) -> None:
    """Adds the widths of queries, keys and values of a multi-head attention, and checks that the heads divide them."""
    h = sizes[f"{tower}.h"]
    sizes[f"{tower}.hd"] = c.divides(h, heads, f"the {tower} heads do not divide its hidden_size")
    sizes |= {f"{tower}.q": h, f"{tower}.kv": h}


def pair(c: Config, name: str) -> tuple[int, int]:
    """A size that files give as one number or as two (down and across)."""
    if not isinstance(c.data.get(name), list):
        side = c.number(name)
        return side, side
    both = c.numbers(name, least=1) or []
    if len(both) != 2:
        raise UsageError(f"{c.prefix}{name} in the configuration must be one or two whole numbers, not {shown(both)}")
    return both[0], both[1]


SIGLIP = Layer(("layer_norm1", "", "layer_norm2", ""))


def siglip_encoder(c: Config, sizes: dict[str, int], root: str, head: bool = False) -> list[Block]:
    """SigLIP's tower (also Idefics 3's): biased patches, learned positions, a last norm, and a pooling head where asked."""
    patch = vit_axes(c, sizes)
    first = Draft("vision-embedding", f"{root}embeddings.", PATCHES)
    convolve(first, "patch_embedding", "pixels", "x", patch, "vision", PATCHES, bias=True)
    first.tensor("position_embedding.weight", ("vision.patches", "vision.h"), "vision")
    last = Draft("vision-norm", root, PATCHES)
    last.norm("post_layernorm", "x", "n", "layer", "vision.h", "vision")
    if head:
        _pooling_head(last)
    layers = SIGLIP.block("vision-layer", f"{root}encoder.layers.{{layer}}.", c.layers())
    return [first.block((0,), "vision"), layers, last.block((0,), "vision")]


def _pooling_head(b: Draft) -> None:
    one: Axes = ("images", 1)
    b.tensor("head.probe", (1, 1, "vision.h"), "vision")
    weights = [
        b.tensor("head.attention.in_proj_weight", ("vision.qkv", "vision.h"), "vision", matrix=True),
        b.tensor("head.attention.in_proj_bias", ("vision.qkv",), "vision"),
    ]
    b.op("linear", ("n",), "pooled_kv", (*PATCHES, 2, "vision.h"), ((4, (*PATCHES, "vision.h", "vision.h")),), weights)
    b.linear("head.attention.out_proj", "pooled_kv", "pooled", ("vision.h", "vision.h"), "vision", True, tokens=one)
    b.norm("head.layernorm", "pooled", "pooled_norm", "layer", "vision.h", "vision", (*one, "vision.h"))
    b.linear("head.mlp.fc1", "pooled_norm", "pooled_up", ("vision.ffn", "vision.h"), "vision", True, tokens=one)
    b.linear("head.mlp.fc2", "pooled_up", "pooled_out", ("vision.h", "vision.ffn"), "vision", True, tokens=one)


def siglip(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """SigLIP behind Gemma 3, and Gemma 3's projector: one matrix after one norm."""
    blocks = siglip_encoder(c, sizes, "vision_tower.vision_model.", c.flag("vision_use_head", default=True))
    last = Draft("vision-projector", "multi_modal_projector.", PATCHES)
    last.norm("mm_soft_emb_norm", "n", "p", "rms", "vision.h", "vision")
    weight = last.tensor("mm_input_projection_weight", ("vision.h", text_width), "vision", matrix=True)
    last.op("linear", ("p",), "soft", (*PATCHES, text_width), ((2, (*PATCHES, "vision.h", text_width)),), [weight])
    return [*blocks, last.block((0,), "vision")]


def clip(c: Config, sizes: dict[str, int], root: str) -> list[Block]:
    """CLIP's tower: a class token, learned positions, a norm before the layers and one after them."""
    patch = vit_axes(c, sizes)
    first = Draft("vision-embedding", root, PATCHES)
    convolve(first, "embeddings.patch_embedding", "pixels", "patches", patch, "vision", PATCHES)
    first.tensor("embeddings.class_embedding", ("vision.h",), "vision")
    first.tensor("embeddings.position_embedding.weight", ("vision.tokens", "vision.h"), "vision")
    first.norm("pre_layrnorm", "patches", "x", "layer", "vision.h", "vision", (*TOKENS, "vision.h"))
    last = Draft("vision-norm", root, TOKENS)
    last.norm("post_layernorm", "x", "n", "layer", "vision.h", "vision")
    layers = SIGLIP.block("vision-layer", f"{root}encoder.layers.{{layer}}.", c.layers(), TOKENS)
    return [first.block((0,), "vision"), layers, last.block((0,), "vision")]


PIXTRAL = Layer(
    ("attention_norm", "", "ffn_norm", ""), ("q_proj", "k_proj", "v_proj", "o_proj"), "attention.",
    ("feed_forward.gate_proj", "feed_forward.up_proj", "feed_forward.down_proj"), "rms",
    (False, False, False, False), (False, False, False),
)  # fmt: skip


def pixtral_encoder(
    c: Config, sizes: dict[str, int], root: str = "vision_tower.", layer: Layer = PIXTRAL
) -> list[Block]:
    """Pixtral's tower: RMSNorm, a gated MLP, rotary positions, no biases."""
    patch = c.number("patch_size")
    sizes |= {
        "vision.h": c.number("hidden_size"),
        "vision.ffn": c.number("intermediate_size"),
        "vision.patches": (c.number("image_size") // patch) ** 2,
    }
    attention_axes(c, sizes, "vision", c.number("num_attention_heads"))
    first = Draft("vision-embedding", root, PATCHES)
    axes: Axes = ("vision.h", c.number("num_channels", default=3), patch, patch)
    convolve(first, "patch_conv", "pixels", "patches", axes, "vision", PATCHES)
    first.norm("ln_pre", "patches", "x", "rms", "vision.h", "vision")
    layers = layer.block("vision-layer", f"{root}transformer.layers.{{layer}}.", c.layers())
    return [first.block((0,), "vision"), layers]


def pixtral(
    c: Config, text_width: int, merge: int, bias: bool, sizes: dict[str, int], features: int = 1
) -> list[Block]:  # fmt: skip
    """Pixtral's tower behind a decoder, with the projector of Mistral 3 that merges `merge` x `merge` patches."""
    blocks = pixtral_encoder(c, sizes)
    last = Draft("vision-projector", "multi_modal_projector.", PATCHES)
    merged: Axes = ("images", "vision.merged_patches")
    sizes["vision.merged"] = sizes["vision.h"] * merge * merge
    sizes["vision.merged_patches"] = sizes["vision.patches"] // (merge * merge)
    sizes["vision.features"] = sizes["vision.h"] * features
    last.norm("norm", "x", "n", "rms", "vision.h", "vision")
    last.linear("patch_merger.merging_layer", "n", "p0", ("vision.h", "vision.merged"), "vision", tokens=merged)
    last.linear("linear_1", "p0", "p1", (text_width, "vision.features"), "vision", bias, tokens=merged)
    last.linear("linear_2", "p1", "p2", (text_width, text_width), "vision", bias, tokens=merged)
    return [*blocks, last.block((0,), "vision")]


ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    kind: (of, {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, **more})
    for kind, of, more in (
        ("clip_vision_model", "CLIPVisionConfig", {"image_size": 224, "patch_size": 32}),
        ("siglip_vision_model", "SiglipVisionConfig", {"image_size": 224, "patch_size": 16, "vision_use_head": True}),
    )
} | {
    "pixtral": ("PixtralVisionConfig", {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 1024,
        "patch_size": 16,
    }),
}  # fmt: skip


def tower_config(c: Config, *known: str) -> Config:
    """The configuration of a tower of one of the `known` types (the first where it names none), its defaults filled in."""
    kind = c.text("model_type") or known[0]
    if kind not in known:
        raise CannotAnswer(f"{c.prefix}model_type is {shown(kind)}; described here are {', '.join(known)}", [kind])
    return with_fields(filled(c, *ENCODERS[kind]), model_type=kind)


def encoder(c: Config, model_type: str, sizes: dict[str, int]) -> list[Block]:
    """The tower that a wrapper's vision_config names (`model_type` where it names none): CLIP, SigLIP or Pixtral."""
    c = tower_config(c, *sorted(ENCODERS, key=lambda kind: kind != model_type))
    if c.text("model_type") == "clip_vision_model":
        return clip(c, sizes, "vision_tower.vision_model.")
    if c.text("model_type") == "siglip_vision_model":
        return siglip_encoder(c, sizes, "vision_tower.vision_model.", c.flag("vision_use_head", default=True))
    return pixtral_encoder(c, sizes)


def features_of(c: Config, name: str = "vision_feature_layer") -> int:
    """How many of the tower's layers a projector reads side by side: one, or as many as the list names."""
    value = c.data.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return 1
    if not isinstance(value, list) or not value or len(value) > 1000:
        raise UsageError(
            f"{c.prefix}{name} in the configuration must be a layer or a list of layers, not {shown(value)}"
        )
    return len(value)


def two_matrices(sizes: dict[str, int], text_width: int, features: int, bias: bool, extra: Sequence[str] = ()) -> Block:
    """Llava's projector: a matrix from the tower's width, an activation, a second matrix; `extra` are single vectors."""
    b = Draft("vision-projector", "", PATCHES)
    sizes["vision.features"] = sizes["vision.h"] * features
    b.linear("multi_modal_projector.linear_1", "x", "p1", (text_width, "vision.features"), "vision", bias)
    b.op("activation", ("p1",), "pa", (*PATCHES, text_width))
    b.linear("multi_modal_projector.linear_2", "pa", "p2", (text_width, text_width), "vision", bias)
    for name in extra:
        b.tensor(name, (text_width,), "vision")
    return b.block((0,), "vision")
