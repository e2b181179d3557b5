"""The towers of Gemma 3n (MobileNet-V5, a conformer) and Gemma 4 (a transformer of any aspect ratio, a conformer).

How large an image or how long a recording is is a workload's, so the axes of positions have no size here.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.multimodal import filled
from advisor_mcp.anatomy.parts import Draft
from advisor_mcp.anatomy.towers import PATCHES, Layer, convolve
from advisor_mcp.errors import CannotAnswer, UsageError, shown

FRAMES: Axes = ("recordings", "audio.frames")
ROOT = "model.vision_tower.timm_model."
STEM = 64
FUSED = (1920, 3840, 2048)  # channels of the last two stages together, twice that, and what the decoder reads


@dataclass(frozen=True, slots=True)
class Residual:
    """A residual block of MobileNet-V5 (timm 1.0.31): an inverted bottleneck, or attention with one key and value head.

    `start` and `middle` are the kernels of depthwise convolutions (0: none), `expand` how much wider its middle is. With
    `heads` it is an attention whose keys and values are read from every `stride`-th position.
    """

    channels: int
    start: int = 0
    middle: int = 0
    expand: int = 0
    heads: int = 0
    head_dim: int = 0
    stride: int = 1

    def write(self, b: Draft, reads: int) -> None:
        """Add its convolutions; `reads` are the channels that come in."""
        if self.heads:
            self._attend(b)
        else:
            self._bottleneck(b, reads)
        b.tensor("layer_scale.gamma", (self.channels,), "vision")

    def _bottleneck(self, b: Draft, reads: int) -> None:
        wide = reads * self.expand
        if self.start:
            _conv(b, "dw_start.conv", (reads, 1, self.start, self.start), "dw_start.bn")
        _conv(b, "pw_exp.conv", (wide, reads, 1, 1), "pw_exp.bn")
        if self.middle:
            _conv(b, "dw_mid.conv", (wide, 1, self.middle, self.middle), "dw_mid.bn")
        _conv(b, "pw_proj.conv", (self.channels, wide, 1, 1), "pw_proj.bn")

    def _attend(self, b: Draft) -> None:
        c, width = self.channels, self.heads * self.head_dim
        b.norm("norm", "x", "n", "rms", c, "vision", (*b.tokens, c))
        convolve(b, "attn.query.proj", "n", "q", (width, c, 1, 1), "vision", b.tokens)
        for name in ("key", "value"):
            if self.stride > 1:
                _conv(b, f"attn.{name}.down_conv", (c, 1, 3, 3), f"attn.{name}.norm")
            convolve(b, f"attn.{name}.proj", "n", name, (self.head_dim, c, 1, 1), "vision", b.tokens)
        scores = ((4 / self.stride**2, (*b.tokens, b.tokens[-1], width)),)
        b.op("attention", ("q", "key", "value"), "att", (*b.tokens, width), scores)
        convolve(b, "attn.output.proj", "att", "o", (c, width, 1, 1), "vision", b.tokens)


def _conv(b: Draft, name: str, axes: Axes, norm: str) -> None:
    convolve(b, name, "x", name, axes, "vision", b.tokens)
    b.norm(norm, name, norm, "rms", axes[0], "vision", (*b.tokens, axes[0]))


def _stages() -> list[list[Residual]]:
    def pairs(attention: Residual, times: int) -> list[Residual]:
        return [attention, Residual(attention.channels, expand=2)] * times

    second = [Residual(256, start, expand=4) for start in (5, 3, 5, 3)]
    return [
        [Residual(256, 3, 5, 6), *second],
        [
            Residual(640, 5, 5, 6), *[Residual(640, 5, expand=4)] * 7, Residual(640, expand=1),
            *pairs(Residual(640, heads=12, head_dim=64, stride=2), 14),
        ],
        [Residual(1280, 5, 5, 6), *pairs(Residual(1280, heads=16, head_dim=96), 19)],
    ]  # fmt: skip


def mobilenet(c: Config) -> list[Block]:
    """MobileNet-V5 300M, the tower of Gemma 3n, whose dimensions its name fixes."""
    name = c.text("architecture") or "mobilenetv5_300m_enc"
    if name != "mobilenetv5_300m_enc" or c.data.get("model_args"):
        raise CannotAnswer(
            f"{c.prefix}architecture is {shown(name)} or has model_args; only a plain mobilenetv5_300m_enc is described"
        )
    blocks = [_stem(), *_first_stage()]
    reads = 128
    for stage, residuals in enumerate(_stages(), start=1):
        for at, residual in _grouped(residuals, reads):
            b = Draft(f"vision-stage{stage}", f"{ROOT}blocks.{stage}.{{layer}}.", ("images", f"vision.grid{stage}"))
            residual[0].write(b, residual[1])
            blocks.append(b.block(at, "vision"))
        reads = residuals[-1].channels
    return [*blocks, _fusion()]


def _grouped(residuals: list[Residual], reads: int) -> list[tuple[tuple[int, ...], tuple[Residual, int]]]:
    found: dict[tuple[Residual, int], list[int]] = {}
    for index, residual in enumerate(residuals):
        found.setdefault((residual, reads if index == 0 else residual.channels), []).append(index)
    return [(tuple(at), key) for key, at in found.items()]


def _stem() -> Block:
    b = Draft("vision-embedding", f"{ROOT}conv_stem.", ("images", "vision.grid"))
    convolve(b, "conv", "pixels", "c", (STEM, 3, 3, 3), "vision", b.tokens, bias=True)
    b.norm("bn", "c", "x", "rms", STEM, "vision", (*b.tokens, STEM))
    return b.block((0,), "vision")


def _first_stage() -> list[Block]:
    blocks = []
    for layers, reads in (((0,), STEM), ((1, 2), 128)):
        b = Draft("vision-stage0", f"{ROOT}blocks.0.{{layer}}.", ("images", "vision.grid0"))
        _conv(b, "conv_exp", (4 * reads, reads, 3, 3), "bn1")
        _conv(b, "conv_pwl", (128, 4 * reads, 1, 1), "bn2")
        blocks.append(b.block(layers, "vision"))
    return blocks


def _fusion() -> Block:
    joined, wide, out = FUSED
    b = Draft("vision-fusion", f"{ROOT}msfa.", ("images", "vision.grid2"))
    _conv(b, "ffn.pw_exp.conv", (wide, joined, 1, 1), "ffn.pw_exp.bn")
    _conv(b, "ffn.pw_proj.conv", (out, wide, 1, 1), "ffn.pw_proj.bn")
    b.norm("norm", "x", "n", "rms", out, "vision", (*b.tokens, out))
    return b.block((0,), "vision")


def embedder(c: Config, tower: str, text_width: int, sizes: dict[str, int], of: str, width: int) -> Block:
    """Gemma 3n's way into the decoder: a vocabulary of the modality's own, two norms and one matrix."""
    h = c.number("hidden_size", default=width, of=of)
    sizes |= {f"{tower}.out": h, f"{tower}.vocab": c.number("vocab_size", default=128, of=of)}
    b = Draft(f"{tower}-projector", f"model.embed_{tower}.", (tower, f"{tower}.soft"))
    axis = f"{tower}.out"
    b.tensor("embedding.weight", (f"{tower}.vocab", axis), tower)
    b.norm("hard_embedding_norm", "hard", "hn", "rms", axis, tower)
    b.norm("soft_embedding_norm", "x", "sn", "rms", axis, tower)
    b.linear("embedding_projection", "sn", "soft", (text_width, axis), tower)
    return b.block((0,), tower)


@dataclass(frozen=True, slots=True)
class Conformer:
    """What a release calls the parts of a conformer block; `suffix` stands between a matrix and ".weight"."""

    layer: str
    feeds: tuple[str, str]
    attention: str
    projections: str
    position: str
    norms: tuple[str, str, str]
    post: str
    suffix: str = ""

    def block(self, layers: int, kernel: int) -> Block:
        """Half a feed-forward, attention with relative positions, a gated depthwise convolution, half a feed-forward."""
        b = Draft("audio-layer", self.layer, FRAMES)
        b.value("x", (*FRAMES, "audio.h"))
        self._feed(b, self.feeds[0])
        self._attend(b)
        self._convolution(b, kernel)
        self._feed(b, self.feeds[1])
        _rms(b, self.norms[2])
        return b.block(tuple(range(layers)), "audio")

    def _linear(self, b: Draft, name: str, source: str, axes: tuple[Axis, Axis]) -> None:
        b.linear(f"{name}{self.suffix}", source, name, axes, "audio")

    def _feed(self, b: Draft, name: str) -> None:
        _rms(b, f"{name}.pre_layer_norm")
        self._linear(b, f"{name}.ffw_layer_1", f"{name}.pre_layer_norm", ("audio.ffn", "audio.h"))
        self._linear(b, f"{name}.ffw_layer_2", f"{name}.ffw_layer_1", ("audio.h", "audio.ffn"))
        _rms(b, f"{name}.post_layer_norm")

    def _attend(self, b: Draft) -> None:
        _rms(b, self.norms[0])
        at = f"{self.attention}{self.projections}"
        b.tensor(f"{at}per_dim_scale", ("audio.hd",), "audio")
        b.linear(f"{at}{self.position}", "positions", "rel", ("audio.h", "audio.h"), "audio", tokens=("audio.context",))
        for name in ("q_proj", "k_proj", "v_proj"):
            self._linear(b, f"{at}{name}", self.norms[0], ("audio.h", "audio.h"))
        reads = [f"{at}{name}" for name in ("q_proj", "k_proj", "v_proj")]
        scores = ((6, (*FRAMES, "audio.context", "audio.h")),)  # content and position scores, and the weighted sum
        b.op("attention", [*reads, "rel"], "att", (*FRAMES, "audio.h"), scores)
        self._linear(b, self.post, "att", ("audio.h", "audio.h"))
        _rms(b, self.norms[1])

    def _convolution(self, b: Draft, kernel: int) -> None:
        _rms(b, "lconv1d.pre_layer_norm")
        self._linear(b, "lconv1d.linear_start", "lconv1d.pre_layer_norm", ("audio.wide", "audio.h"))
        convolve(b, "lconv1d.depthwise_conv1d", "lconv1d.linear_start", "conv", ("audio.h", 1, kernel), "audio", FRAMES)
        _rms(b, "lconv1d.conv_norm")
        self._linear(b, "lconv1d.linear_end", "lconv1d.conv_norm", ("audio.h", "audio.h"))


def _rms(b: Draft, name: str) -> None:
    b.norm(name, "x", name, "rms", "audio.h", "audio")


GEMMA3N = Conformer(
    "model.audio_tower.conformer.{layer}.", ("ffw_layer_start", "ffw_layer_end"), "attention.", "attn.",
    "relative_position_embedding.pos_proj", ("attention.pre_attn_norm", "attention.post_norm", "norm"), "attention.post",
)  # fmt: skip
GEMMA4 = Conformer(
    "model.audio_tower.layers.{layer}.", ("feed_forward1", "feed_forward2"), "self_attn.", "", "relative_k_proj",
    ("norm_pre_attn", "norm_post_attn", "norm_out"), "self_attn.post", ".linear",
)  # fmt: skip


def _audio_axes(c: Config, sizes: dict[str, int], heads: str, left: str, right: str, chunk: str) -> None:
    h = c.number("hidden_size")
    sizes |= {"audio.h": h, "audio.ffn": 4 * h, "audio.wide": 2 * h}
    sizes["audio.hd"] = c.divides(h, c.number(heads), "the audio heads do not divide its hidden_size")
    sizes["audio.context"] = c.number(chunk) + max(c.number(left, least=0) - 1, 0) + c.number(right, least=0)


def _pairs(c: Config, name: str, default: tuple[int, int]) -> list[tuple[int, int]]:
    value = c.entries(name)
    if value is None:
        return [default, default]
    found = [Config({name: entry}, c.prefix).numbers(name, least=1) for entry in value]
    if len(found) != 2 or any(pair is None or len(pair) != 2 for pair in found):
        raise UsageError(
            f"{c.prefix}{name} in the configuration must be two pairs of whole numbers, not {shown(value)}"
        )
    return [(pair[0], pair[1]) for pair in found if pair]


def _channels(c: Config, name: str) -> tuple[int, int]:
    value = c.numbers(name, least=1)
    if value is None:
        return (128, 32)
    if len(value) != 2:
        raise UsageError(f"{c.prefix}{name} in the configuration must be two whole numbers, not {shown(value)}")
    return (value[0], value[1])


def gemma3n_audio(c: Config, sizes: dict[str, int]) -> list[Block]:
    """Gemma 3n's audio tower: two strided convolutions and a conformer."""
    c = filled(
        c, "Gemma3nAudioConfig",
        {
            "hidden_size": 1536, "input_feat_size": 128, "conf_num_hidden_layers": 12, "conf_num_attention_heads": 8,
            "conf_conv_kernel_size": 5, "conf_attention_chunk_size": 12, "conf_attention_context_left": 13,
            "conf_attention_context_right": 0,
        },
    )  # fmt: skip
    _audio_axes(
        c, sizes, "conf_num_attention_heads", "conf_attention_context_left", "conf_attention_context_right",
        "conf_attention_chunk_size",
    )  # fmt: skip
    channels, kernels = _channels(c, "sscp_conv_channel_size"), _pairs(c, "sscp_conv_kernel_size", (3, 3))
    strides, width = _pairs(c, "sscp_conv_stride_size", (2, 2)), c.number("input_feat_size")
    root = "model.audio_tower.subsample_conv_projection."
    b = Draft("audio-embedding", root, FRAMES)
    before = 1
    for at, (out, kernel, stride) in enumerate(zip(channels, kernels, strides, strict=True)):
        width = (width + 2 - kernel[1]) // stride[1] + 1
        convolve(b, f"conv_{at}.conv", "sound", f"c{at}", (out, before, *kernel), "audio", (*FRAMES, max(width, 0)))
        b.norm(f"conv_{at}.norm", f"c{at}", f"n{at}", "rms", out, "audio")
        before = out
    if width < 1:
        raise UsageError(f"{c.prefix}input_feat_size in the configuration is smaller than its convolutions' kernels")
    sizes["audio.flat"] = before * width
    b.linear("input_proj_linear", "n1", "x", ("audio.h", "audio.flat"), "audio")
    layers = c.layers("conf_num_hidden_layers")
    return [b.block((0,), "audio"), GEMMA3N.block(layers, c.number("conf_conv_kernel_size"))]


def gemma4_audio(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Gemma 4's audio tower and the matrix into the decoder."""
    c = filled(
        c, "Gemma4AudioConfig",
        {
            "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8, "conv_kernel_size": 5,
            "attention_chunk_size": 12, "attention_context_left": 13, "attention_context_right": 0, "output_proj_dims": 1536,
        },
    )  # fmt: skip
    _audio_axes(
        c, sizes, "num_attention_heads", "attention_context_left", "attention_context_right", "attention_chunk_size"
    )
    first, second = _channels(c, "subsampling_conv_channels")
    sizes |= {"audio.flat": first // 4 * second, "audio.out": c.number("output_proj_dims")}
    b = Draft("audio-embedding", "model.audio_tower.subsample_conv_projection.", FRAMES)
    for at, (out, before) in enumerate(((first, 1), (second, first))):
        convolve(b, f"layer{at}.conv", "sound", f"c{at}", (out, before, 3, 3), "audio", (*FRAMES, max(first // 4, 1)))
        b.norm(f"layer{at}.norm", f"c{at}", f"n{at}", "layer_no_bias", out, "audio")
    b.linear("input_proj_linear", "n1", "x", ("audio.h", "audio.flat"), "audio")
    last = Draft("audio-projector", "model.", FRAMES)
    last.linear("audio_tower.output_proj", "x", "out", ("audio.out", "audio.h"), "audio", bias=True)
    last.linear("embed_audio.embedding_projection", "out", "soft", (text_width, "audio.out"), "audio")
    layers = GEMMA4.block(c.layers(), c.number("conv_kernel_size"))
    return [b.block((0,), "audio"), layers, last.block((0,), "audio")]


GEMMA4_VISION = Layer(
    ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ("q_proj", "k_proj", "v_proj", "o_proj"), feed=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), norm="rms",
    bias=(False, False, False, False), feed_bias=(False, False, False), qk_norm="vision.hd", suffix=".linear",
)  # fmt: skip


def gemma4_vision(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """Gemma 4's vision tower: two position tables (across and down), four norms a layer, a pool, and one matrix."""
    c = filled(
        c, "Gemma4VisionConfig",
        {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 16, "num_attention_heads": 12,
            "num_key_value_heads": 12, "head_dim": 64, "patch_size": 16, "position_embedding_size": 10240,
        },
    )  # fmt: skip
    hd, patch = c.number("head_dim"), c.number("patch_size")
    heads, kv_heads = c.number("num_attention_heads"), c.number("num_key_value_heads")
    c.divides(heads, kv_heads, "the vision KV heads do not divide the vision heads")
    sizes |= {"vision.h": c.number("hidden_size"), "vision.ffn": c.number("intermediate_size"), "vision.hd": hd}
    sizes |= {
        "vision.q": heads * hd,
        "vision.kv": kv_heads * hd,
        "vision.positions": c.number("position_embedding_size"),
    }
    sizes["vision.pixels"] = 3 * patch * patch
    b = Draft("vision-embedding", "model.vision_tower.patch_embedder.", PATCHES)
    b.linear("input_proj", "pixels", "patches", ("vision.h", "vision.pixels"), "vision")
    table = b.tensor("position_embedding_table", (2, "vision.positions", "vision.h"), "vision")
    b.op("lookup", ("patches",), "x", (*PATCHES, "vision.h"), weights=[table])
    last = Draft("vision-projector", "model.", ("images", "vision.soft"))
    last.linear("embed_vision.embedding_projection", "x", "soft", (text_width, "vision.h"), "vision")
    layers = GEMMA4_VISION.block("vision-layer", "model.vision_tower.encoder.layers.{layer}.", c.layers())
    return [b.block((0,), "vision"), layers, last.block((0,), "vision")]


def unified(
    vision: Config | None, audio: Config | None, width: int, sizes: dict[str, int]
) -> tuple[list[Block], tuple[Block, ...]]:
    """The ways into Gemma 4's unified decoder, which has no towers: patches through a matrix, sound as it is."""
    blocks = []
    if vision is not None:
        blocks.append(_unified_vision(vision, width, sizes))
    if audio is not None:
        names = ("audio_embed_dim", "output_proj_dims", "hidden_size", "audio_samples_per_token")
        sizes["audio.out"] = audio.number(*names, default=640, of="Gemma4UnifiedAudioConfig")
        b = Draft("audio-projector", "model.embed_audio.", FRAMES)
        b.linear("embedding_projection", "sound", "soft", (width, "audio.out"), "audio")
        blocks.append(b.block((0,), "audio"))
    return blocks, ()


def _unified_vision(c: Config, width: int, sizes: dict[str, int]) -> Block:
    of = "Gemma4UnifiedVisionConfig"
    side = c.number("patch_size", default=16, of=of) * c.number("pooling_kernel_size", default=3, of=of)
    sizes |= {
        "vision.pixels": 3 * side * side,
        "vision.h": c.number("mm_embed_dim", default=3840, of=of),
        "vision.positions": c.number("mm_posemb_size", default=1120, of=of),
        "vision.out": c.number("output_proj_dims", default=3840, of=of),
    }
    b = Draft("vision-projector", "model.vision_embedder.", PATCHES)
    b.norm("patch_ln1", "pixels", "n1", "layer", "vision.pixels", "vision")
    b.linear("patch_dense", "n1", "patches", ("vision.h", "vision.pixels"), "vision", bias=True)
    b.norm("patch_ln2", "patches", "n2", "layer", "vision.h", "vision")
    b.tensor("pos_embedding", ("vision.positions", 2, "vision.h"), "vision")
    b.norm("pos_norm", "n2", "x", "layer", "vision.h", "vision")
    b.prefix = "model.embed_vision."
    b.linear("embedding_projection", "x", "soft", (width, "vision.out"), "vision")
    return b.block((0,), "vision")


def gemma4_buffers(vision: Config | None, audio: Config | None, sizes: dict[str, int]) -> tuple[Block, ...]:
    """What the checkpoint holds beside the towers' parameters: limits of clipped matrices and statistics of the pool."""
    found = []
    if vision is not None and vision.flag("use_clipped_linears"):
        names = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
        layers = vision.number("num_hidden_layers", default=16)
        found.append(_limits("model.vision_tower.encoder.layers.{layer}.", names, layers, "vision"))
    if vision is not None and vision.flag("standardize"):
        b = Draft("vision pool statistics", "model.vision_tower.")
        for name in ("std_bias", "std_scale"):
            b.tensor(name, ("vision.h",), "vision")
        found.append(b.block((0,), "vision"))
    if audio is not None and audio.flag("use_clipped_linears", default=True):
        names = [f"feed_forward{at}.ffw_layer_{layer}" for at in (1, 2) for layer in (1, 2)]
        names += [f"self_attn.{x}" for x in ("q_proj", "k_proj", "v_proj", "post")]
        names += ["lconv1d.linear_start", "lconv1d.linear_end"]
        layers = audio.number("num_hidden_layers", default=12)
        found.append(_limits("model.audio_tower.layers.{layer}.", names, layers, "audio"))
    return tuple(found)


def _limits(prefix: str, names: list[str], layers: int, tower: str) -> Block:
    b = Draft(f"{tower} clipping limits", prefix)
    for name in names:
        for limit in ("input_min", "input_max", "output_min", "output_max"):
            b.tensor(f"{name}.{limit}", (), tower)
    return b.block(tuple(range(layers)), tower)
