"""The vision and audio towers of the Qwen models. Axes carry the prefix `vision.` or `audio.`; images have any size.

The number of patches of an image (`vision.patches`) and of frames of a recording (`audio.frames`) is a workload's, not the
model's, so these axes have no size here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.parts import Draft, Norm
from advisor_mcp.errors import UsageError

PATCHES: Axes = ("images", "vision.patches")
MERGED: Axes = ("images", "vision.merged_patches")
FRAMES: Axes = ("recordings", "audio.frames")


@dataclass(frozen=True, slots=True)
class Names:
    """What the towers of one release call their parts, and which norm and MLP they use.

    `deepstack` names the mergers of the layers whose output is passed on as well; "" where there are none.
    """

    root: str
    of: str
    depth: int = 27
    width: int = 1152
    norm: Norm = "layer"
    patch: int = 16
    patch_bias: bool = True
    mlp: tuple[str, ...] = ("linear_fc1", "linear_fc2")
    merger: tuple[str, str, str] = ("norm", "linear_fc1", "linear_fc2")
    deepstack: str = ""


QWEN2 = Names(
    "visual.", "Qwen2VLVisionConfig", 32, 1280, "layer", 14, False, ("fc1", "fc2"), ("ln_q", "mlp.0", "mlp.2")
)
QWEN2_5 = Names(
    "visual.", "Qwen2_5_VLVisionConfig", 32, 3584, "rms", 14, False,
    ("gate_proj", "up_proj", "down_proj"), ("ln_q", "mlp.0", "mlp.2"),
)  # fmt: skip
QWEN3 = Names("model.visual.", "Qwen3VLVisionConfig", deepstack="deepstack_merger_list")
QWEN3_5 = Names("model.visual.", "Qwen3_5VisionConfig")
QWEN3_OMNI = Names(
    "thinker.visual.", "Qwen3OmniMoeVisionEncoderConfig", merger=("ln_q", "mlp.0", "mlp.2"), deepstack="merger_list"
)


def qwen2_tower(c: Config, sizes: dict[str, int]) -> list[Block]:
    """Qwen2-VL's tower: `embed_dim` is its width, `hidden_size` the decoder's, the MLP is `mlp_ratio` times as wide."""
    width = c.number("embed_dim", default=QWEN2.width, of=QWEN2.of)
    sizes |= _sizes(c, QWEN2, width, c.number("hidden_size", default=3584, of=QWEN2.of))
    sizes["vision.ffn"] = width * c.number("mlp_ratio", default=4, of=QWEN2.of)
    layers = tuple(range(_depth(c, QWEN2)))
    return [_patches(c, QWEN2), _layer(QWEN2, layers), _merger(QWEN2)]


def qwen2_5_tower(c: Config, sizes: dict[str, int], root: str = "visual.") -> list[Block]:
    """Qwen2.5-VL's tower: RMSNorm, a gated MLP, and windows in all but the layers of `fullatt_block_indexes`."""
    names = replace(QWEN2_5, root=root)
    width = c.number("hidden_size", default=names.width, of=names.of)
    sizes |= _sizes(c, names, width, c.number("out_hidden_size", default=3584, of=names.of))
    sizes["vision.ffn"] = c.number("intermediate_size", default=3420, of=names.of)
    merge, patch = _merge(c, names), _patch(c, names)
    side = c.number("window_size", default=112, of=names.of) // merge // patch * merge
    if side < 1:
        raise UsageError(f"{c.prefix}window_size in the configuration is smaller than one merged patch")
    sizes["vision.window"] = side * side
    whole = set(_indexes(c, "fullatt_block_indexes", (7, 15, 23, 31), names.of))
    depth = range(_depth(c, names))
    full = tuple(layer for layer in depth if layer in whole)
    windowed = tuple(layer for layer in depth if layer not in whole)
    layers = [_layer(names, windowed, "vision.window")] if windowed else []
    layers += [_layer(names, full, name="vision-layer-full")] if full else []
    return [_patches(c, names), *layers, _merger(names)]


def qwen3_tower(c: Config, sizes: dict[str, int], names: Names = QWEN3) -> list[Block]:
    """Qwen3-VL's tower: learned positions, and a merger for each layer whose output is also passed on."""
    width = c.number("hidden_size", default=names.width, of=names.of)
    sizes |= _sizes(c, names, width, c.number("out_hidden_size", default=3584, of=names.of))
    sizes["vision.ffn"] = c.number("intermediate_size", default=4304, of=names.of)
    sizes["vision.positions"] = c.number("num_position_embeddings", default=2304, of=names.of)
    depth = _depth(c, names)
    taken = _indexes(c, "deepstack_visual_indexes", (8, 16, 24), names.of) if names.deepstack else []
    blocks = [_patches(c, names, positions=True), _layer(names, tuple(range(depth))), _merger(names)]
    if taken:
        blocks.append(_merger(names, f"{names.deepstack}.{{layer}}", tuple(range(len(taken))), late=True))
    return blocks


def _merge(c: Config, names: Names) -> int:
    return c.number("spatial_merge_size", default=2, of=names.of)


def _patch(c: Config, names: Names) -> int:
    return c.number("patch_size", default=names.patch, of=names.of)


def _depth(c: Config, names: Names) -> int:
    return _layers(c, ("depth", "num_hidden_layers"), names.depth, names.of)


def _layers(c: Config, names: tuple[str, str], default: int, of: str) -> int:
    return c.layers(*names) if c.given(*names) else c.number(names[0], default=default, of=of)


def _indexes(c: Config, name: str, default: tuple[int, ...], of: str) -> list[int]:
    found = c.entries(name)
    if found is None:
        c.notes.append(f"{c.prefix}{name} is absent: {list(default)}, the default of {of}")
        return list(default)
    if not all(isinstance(index, int) and not isinstance(index, bool) for index in found):
        raise UsageError(f"{c.prefix}{name} in the configuration must list layer numbers")
    return found


def _sizes(c: Config, names: Names, width: int, out: int) -> dict[str, int]:
    heads = c.number("num_heads", "num_attention_heads", default=16, of=names.of)
    merge = _merge(c, names)
    return {
        "vision.h": width,
        "vision.qkv": 3 * width,
        "vision.heads": heads,
        "vision.hd": c.divides(width, heads, "the vision heads do not divide its width"),
        "vision.merged": width * merge * merge,
        "vision.out": out,
    }


def _patches(c: Config, names: Names, positions: bool = False) -> Block:
    """The convolution that makes patches, over pixels in space and time, and the learned positions."""
    b = Draft("vision-embedding", names.root, PATCHES)
    side = _patch(c, names)
    depth = c.number("temporal_patch_size", default=2, of=names.of)
    pixels: Axes = (c.number("in_channels", "in_chans", default=3), depth, side, side)
    weights = [b.tensor("patch_embed.proj.weight", ("vision.h", *pixels), "vision", matrix=True)]
    if names.patch_bias:
        weights.append(b.tensor("patch_embed.proj.bias", ("vision.h",), "vision"))
    b.value("pixels", (*PATCHES, *pixels))
    out: Axes = (*PATCHES, "vision.h")
    b.op("linear", ("pixels",), "x", out, ((2, (*PATCHES, *pixels, "vision.h")),), weights)
    if positions:
        table = b.tensor("pos_embed.weight", ("vision.positions", "vision.h"), "vision")
        b.op("lookup", ("x",), "xp", out, weights=[table])
    return b.block((0,), "vision")


def _layer(names: Names, layers: tuple[int, ...], span: Axis = "vision.patches", name: str = "vision-layer") -> Block:
    b = Draft(name, f"{names.root}blocks.{{layer}}.", PATCHES)
    b.value("x", (*PATCHES, "vision.h"))
    b.norm("norm1", "x", "a", names.norm, "vision.h", "vision")
    _joined_attention(b, span)
    b.add("x", "o", "r")
    b.norm("norm2", "r", "m", names.norm, "vision.h", "vision")
    *ups, down = names.mlp
    for up in ups:
        b.linear(f"mlp.{up}", "m", up, ("vision.ffn", "vision.h"), "vision", bias=True)
    b.op("gate" if len(ups) > 1 else "activation", ups, "act", (*PATCHES, "vision.ffn"))
    b.linear(f"mlp.{down}", "act", "y", ("vision.h", "vision.ffn"), "vision", bias=True)
    b.add("r", "y", "out")
    return b.block(layers, "vision")


def _joined_attention(b: Draft, span: Axis) -> None:
    """Attention without a mask whose queries, keys and values come from one matrix, over the patches of `span`."""
    b.linear("attn.qkv", "a", "qkv", ("vision.qkv", "vision.h"), "vision", bias=True)
    b.op("attention", ("qkv",), "att", (*PATCHES, "vision.h"), ((4, (*PATCHES, span, "vision.h")),))
    b.linear("attn.proj", "att", "o", ("vision.h", "vision.h"), "vision", bias=True)


def _merger(names: Names, part: str = "merger", layers: tuple[int, ...] = (0,), late: bool = False) -> Block:
    """Neighbouring patches joined and projected to the decoder's width; normalised before joining, or after (`late`)."""
    b = Draft("vision-deepstack" if late else "vision-merger", f"{names.root}{part}.", MERGED)
    norm, first, second = names.merger
    axis: Axis = "vision.merged" if late else "vision.h"
    b.value("x", (*PATCHES, "vision.h"))
    b.norm(norm, "x", "n", names.norm, axis, "vision", axes=(*MERGED, "vision.merged"))
    b.linear(first, "n", "up", ("vision.merged", "vision.merged"), "vision", bias=True)
    b.op("activation", ("up",), "act", (*MERGED, "vision.merged"))
    b.linear(second, "act", "out", ("vision.out", "vision.merged"), "vision", bias=True)
    return b.block(layers, "vision")


def audio_tower(
    c: Config, sizes: dict[str, int], root: str, kind: Literal["qwen2_audio", "qwen2_5_omni"]
) -> list[Block]:
    """Whisper's encoder as Qwen uses it: two convolutions, layers with biases except on keys, a norm, and a projection.

    Qwen2-Audio keeps a table of positions and projects in the decoder's module; Qwen2.5-Omni computes positions, projects
    itself, and holds two embeddings that mark the beginning and the end of a recording.
    """
    of = "Qwen2AudioEncoderConfig" if kind == "qwen2_audio" else "Qwen2_5OmniAudioEncoderConfig"
    _audio_sizes(c, sizes, of)
    first, last = Draft("audio-embedding", root, FRAMES), Draft("audio-end", root, FRAMES)
    _convolution(first, "conv1", "mel", "c1", "audio.mels", frames=2)
    _convolution(first, "conv2", "c1", "x", "audio.h", frames=1)
    if kind == "qwen2_audio":
        sizes["audio.positions"] = c.number("max_source_positions", default=1500, of=of)
        table = first.tensor("embed_positions.weight", ("audio.positions", "audio.h"), "audio")
        first.op("lookup", ("x",), "xp", (*FRAMES, "audio.h"), weights=[table])
        last.norm("layer_norm", "x", "n", "layer", "audio.h", "audio")
    else:
        sizes["audio.out"] = c.number("output_dim", default=3584, of=of)
        marks = first.tensor("audio_bos_eos_token.weight", (2, "audio.out"), "audio")
        first.op("lookup", ("x",), "marks", ("recordings", 2, "audio.out"), weights=[marks])
        last.norm("ln_post", "x", "n", "layer", "audio.h", "audio")
        last.linear("proj", "n", "y", ("audio.out", "audio.h"), "audio", bias=True)
    depth = _layers(c, ("encoder_layers", "num_hidden_layers"), 32, of)
    return [first.block((0,), "audio"), _audio_layer(root, tuple(range(depth))), last.block((0,), "audio")]


def _audio_sizes(c: Config, sizes: dict[str, int], of: str) -> int:
    """Add the axes of an audio encoder; returns the number of mel bins."""
    mels = c.number("num_mel_bins", default=128, of=of)
    sizes |= {
        "audio.h": c.number("d_model", "hidden_size", default=1280, of=of),
        "audio.mels": mels,
        "audio.heads": c.number("encoder_attention_heads", "num_attention_heads", default=20, of=of),
        "audio.ffn": c.number("encoder_ffn_dim", "intermediate_size", default=5120, of=of),
    }
    sizes["audio.hd"] = c.divides(sizes["audio.h"], sizes["audio.heads"], "the audio heads do not divide its width")
    return mels


def _convolution(b: Draft, name: str, source: str, out: str, channels: Axis, frames: int) -> None:
    """A convolution over three frames, at `frames` times the rate of the layers."""
    weight = b.tensor(f"{name}.weight", ("audio.h", channels, 3), "audio", matrix=True)
    bias = b.tensor(f"{name}.bias", ("audio.h",), "audio")
    axes: Axes = (*FRAMES, frames, "audio.h") if frames > 1 else (*FRAMES, "audio.h")
    b.op("conv", (source,), out, axes, ((2, (*axes, channels, 3)),), [weight, bias])


def qwen3_audio_tower(c: Config, sizes: dict[str, int], root: str) -> list[Block]:
    """Qwen3-Omni's audio encoder: three convolutions that halve time and frequency, layers with all biases, two matrices."""
    of = "Qwen3OmniMoeAudioEncoderConfig"
    mels = _audio_sizes(c, sizes, of)
    channels = c.number("downsample_hidden_size", default=480, of=of)
    bands = [mels := (mels + 1) // 2 for _ in range(3)]
    sizes |= {
        "audio.channels": channels,
        "audio.bands": channels * bands[-1],
        "audio.out": c.number("output_dim", default=3584, of=of),
    }
    first, last = Draft("audio-embedding", root, FRAMES), Draft("audio-end", root, FRAMES)
    # the first two convolutions still see four and two times the frames that the layers see
    for index, (source, inputs, frames) in enumerate((("mel", 1, 4), ("c1", channels, 2), ("c2", channels, 1))):
        name, out = f"conv2d{index + 1}", f"c{index + 1}"
        weight = first.tensor(f"{name}.weight", ("audio.channels", inputs, 3, 3), "audio", matrix=True)
        bias = first.tensor(f"{name}.bias", ("audio.channels",), "audio")
        axes: Axes = (*FRAMES, frames, "audio.channels", bands[index])
        first.op("conv", (source,), out, axes, ((2, (*axes, inputs, 3, 3)),), [weight, bias])
    first.linear("conv_out", "c3", "x", ("audio.h", "audio.bands"), "audio")
    last.norm("ln_post", "x", "n", "layer", "audio.h", "audio")
    last.linear("proj1", "n", "p", ("audio.h", "audio.h"), "audio", bias=True)
    last.op("activation", ("p",), "pa", (*FRAMES, "audio.h"))
    last.linear("proj2", "pa", "y", ("audio.out", "audio.h"), "audio", bias=True)
    depths = tuple(range(_layers(c, ("encoder_layers", "num_hidden_layers"), 32, of)))
    return [first.block((0,), "audio"), _audio_layer(root, depths, key_bias=True), last.block((0,), "audio")]


def _audio_layer(root: str, layers: tuple[int, ...], key_bias: bool = False) -> Block:
    b = Draft("audio-layer", f"{root}layers.{{layer}}.", FRAMES)
    b.value("x", (*FRAMES, "audio.h"))
    b.norm("self_attn_layer_norm", "x", "a", "layer", "audio.h", "audio")
    for name in ("q", "k", "v"):
        b.linear(f"self_attn.{name}_proj", "a", name, ("audio.h", "audio.h"), "audio", bias=key_bias or name != "k")
    b.op("attention", ("q", "k", "v"), "att", (*FRAMES, "audio.h"), ((4, (*FRAMES, "audio.frames", "audio.h")),))
    b.linear("self_attn.out_proj", "att", "o", ("audio.h", "audio.h"), "audio", bias=True)
    b.add("x", "o", "r")
    b.norm("final_layer_norm", "r", "m", "layer", "audio.h", "audio")
    b.linear("fc1", "m", "up", ("audio.ffn", "audio.h"), "audio", bias=True)
    b.op("activation", ("up",), "act", (*FRAMES, "audio.ffn"))
    b.linear("fc2", "act", "y", ("audio.h", "audio.ffn"), "audio", bias=True)
    b.add("r", "y", "out")
    return b.block(layers, "audio")


def audio_projector(root: str, width: Axis) -> Block:
    """Qwen2-Audio's projector: one biased matrix from the audio width to the decoder's."""
    b = Draft("audio-projector", root, FRAMES)
    b.value("n", (*FRAMES, "audio.h"))
    b.linear("linear", "n", "y", (width, "audio.h"), "audio", bias=True)
    return b.block((0,), "audio")
