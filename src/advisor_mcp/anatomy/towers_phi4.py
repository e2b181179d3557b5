"""The conformer of Phi-4 Multimodal. Its axes carry the prefix `audio.`"""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Block
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import convolve
from advisor_mcp.errors import UsageError

FRAMES: Axes = ("b", "audio.frames")
DEFAULTS = {
    "hidden_size": 1024, "intermediate_size": 1536, "num_blocks": 24, "num_attention_heads": 16, "ext_pw_out_channel": 1024,
    "depthwise_separable_out_channel": 1024, "depthwise_multiplier": 1, "kernel_size": 3, "input_size": 80,
    "time_reduction": 8, "bias_max_distance": 1000, "nemo_conv_channels": 1024, "downsample_rate": 1,
}  # fmt: skip
H = "audio.h"


def audio_tower(c: Config, sizes: dict[str, int], root: str, width: int) -> list[Block]:
    """Convolutions that halve time and frequency, conformer layers, and two projectors: for sound alone and with images."""
    c = filled(c, "Phi4MultimodalAudioConfig", DEFAULTS)
    halvings = _sizes(c, sizes)
    first = Draft("audio-embedding", f"{root}encoder.", FRAMES)
    _subsample(first, halvings)
    first.tensor("relative_attention_bias_layer.bias_values.weight", ("audio.buckets", "audio.heads"), "audio")
    layers = _layer(f"{root}encoder.encoders.{{layer}}.", c.layers("num_blocks"), c.number("kernel_size"))
    last = Draft("audio-projector", root, FRAMES)
    for which in ("speech", "vision_speech"):
        last.linear(f"up_proj_for_{which}", "x", f"{which}.up", (width, "audio.stacked"), "audio", bias=True)
        last.op("activation", (f"{which}.up",), f"{which}.act", (*FRAMES, width))
        last.linear(f"down_proj_for_{which}", f"{which}.act", which, (width, width), "audio", bias=True)
    return [first.block((0,), "audio"), layers, last.block((0,), "audio")]


def statistics(root: str) -> Block:
    """The mean and the inverse deviation of each mel bin: buffers that the checkpoint holds."""
    b = Draft("mel statistics", f"{root}encoder.encoder_embedding.")
    for name in ("global_mean", "global_invstd"):
        b.tensor(name, ("audio.mels",), "audio")
    return b.block((0,))


def _sizes(c: Config, sizes: dict[str, int]) -> int:
    """Adds the axes; returns how often time and frequency are halved."""
    h, heads, reduction = c.number("hidden_size"), c.number("num_attention_heads"), c.number("time_reduction", least=2)
    if reduction % 2:
        raise UsageError(f"{c.prefix}time_reduction in the configuration must be even, not {reduction}")
    halvings, bands = reduction.bit_length() - 1, c.number("input_size")
    for _ in range(halvings):
        bands = (bands + 1) // 2
    hd = c.optional("head_dim") or c.divides(h, heads, "the audio heads do not divide its hidden_size")
    channels, out = c.number("nemo_conv_channels"), c.number("ext_pw_out_channel")
    buckets = c.number("bias_max_distance") * (1 if c.flag("bias_symmetric") else 2)
    sizes |= {H: h, "audio.q": heads * hd, "audio.heads": heads, "audio.ffn": c.number("intermediate_size")}
    sizes |= {"audio.gate_up": 2 * sizes["audio.ffn"], "audio.channels": channels, "audio.bands": channels * bands}
    sizes |= {"audio.glu": 2 * out, "audio.ext": out, "audio.deep": h * c.number("depthwise_multiplier")}
    sizes |= {"audio.separated": c.number("depthwise_separable_out_channel"), "audio.mels": c.number("input_size")}
    sizes |= {"audio.buckets": buckets, "audio.stacked": h * c.number("downsample_rate")}
    return halvings


def _subsample(b: Draft, halvings: int) -> None:
    """A convolution, then pairs of a channel-wise and a pointwise one, each at half the rate of the one before."""
    channels = "audio.channels"
    source, place = "mel", 0
    for step in range(halvings):
        # the positions of one channel at this step, for each frame that the layers see
        rows: Axes = (*FRAMES, 4 ** (halvings - 1 - step), "audio.bands")
        into = 1
        weights = [b.tensor(f"embed.conv.{place}.weight", (channels, into, 3, 3), "audio", matrix=True)]
        weights.append(b.tensor(f"embed.conv.{place}.bias", (channels,), "audio"))
        b.op("convolution", (source,), f"c{step}", rows, ((2, (*rows, into, 9)),), weights)
        source = f"c{step}"
        if step:
            weights = [b.tensor(f"embed.conv.{place + 1}.weight", (channels, channels, 1, 1), "audio", matrix=True)]
            weights.append(b.tensor(f"embed.conv.{place + 1}.bias", (channels,), "audio"))
            b.op("convolution", (source,), f"p{step}", rows, ((2, (*rows, channels)),), weights)
            source = f"p{step}"
        place += 3 if step else 2
    b.linear("embed.out", source, "x", (H, "audio.bands"), "audio", bias=True)


def _layer(prefix: str, layers: int, kernel: int) -> Block:
    """Half an MLP, attention, a convolution over time, half an MLP, and a norm; every part has biases."""
    b = Draft("audio-layer", prefix, FRAMES)
    b.value("x", (*FRAMES, H))
    _feed(b, "feed_forward_in.", "x", "x1")
    b.norm("layer_norm_att", "x1", "a", "layer", H, "audio")
    for name in "qkv":
        b.linear(f"self_attn.{name}_proj", "a", name, ("audio.q", H), "audio", bias=True)
    b.op("attention", "qkv", "att", (*FRAMES, "audio.q"), ((4, (*FRAMES, "audio.frames", "audio.q")),))
    b.linear("self_attn.o_proj", "att", "o", (H, "audio.q"), "audio", bias=True)
    b.add("x1", "o", "x2")
    _convolution(b, kernel)
    _feed(b, "feed_forward_out.", "x3", "x4")
    b.norm("layer_norm", "x4", "out", "layer", H, "audio")
    return b.block(tuple(range(layers)), "audio")


def _feed(b: Draft, prefix: str, source: str, out: str) -> None:
    b.norm(f"{prefix}layer_norm", source, f"{prefix}n", "layer", H, "audio")
    b.linear(f"{prefix}gate_up_proj", f"{prefix}n", f"{prefix}gate_up", ("audio.gate_up", H), "audio", bias=True)
    b.op("gate", (f"{prefix}gate_up",), f"{prefix}act", (*FRAMES, "audio.ffn"))
    b.linear(f"{prefix}down_proj", f"{prefix}act", f"{prefix}y", (H, "audio.ffn"), "audio", bias=True)
    b.add(source, f"{prefix}y", out)


def _convolution(b: Draft, kernel: int) -> None:
    b.norm("conv.layer_norm", "x2", "cn", "layer", H, "audio")
    convolve(b, "conv.glu.ext_pw_conv_1d", "cn", "cu", ("audio.glu", H, 1), "audio", FRAMES, bias=True)
    shifts = [b.tensor(f"conv.glu.{name}", (1, "audio.ext", 1), "audio") for name in ("b1", "b2")]
    b.op("gate", ("cu",), "cg", (*FRAMES, "audio.ext"), weights=shifts)
    convolve(b, "conv.dw_sep_conv_1d.dw_conv", "cg", "cd", ("audio.deep", 1, kernel), "audio", FRAMES, bias=True)
    separated: Axes = ("audio.separated", "audio.deep", 1)
    convolve(b, "conv.dw_sep_conv_1d.pw_conv", "cd", "cp", separated, "audio", FRAMES, bias=True)
    convolve(b, "conv.ext_pw_conv_1d", "cp", "co", ("audio.ext", H, 1), "audio", FRAMES, bias=True)
    b.add("x2", "co", "x3")
