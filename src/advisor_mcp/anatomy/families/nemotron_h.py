"""Nemotron-H and Nemotron 3: each layer is one thing alone, a Mamba 2 mixer, an attention, an MLP or experts.

MLPs and experts have two matrices around a squared ReLU. With moe_latent_size the experts work in a narrower space, between
one product into it and one out of it per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from advisor_mcp.anatomy.config import MOST_LAYERS, Config
from advisor_mcp.anatomy.inventory import Architecture, Axes, Axis, Block, Tensor, Terms
from advisor_mcp.anatomy.parts import (
    GROUPED_DERIVED,
    RESIDUAL,
    Draft,
    assemble,
    by_kind,
    embedding_block,
    expert_axes,
    grouped_axes,
    head_block,
)
from advisor_mcp.anatomy.recurrent import (
    LAYER_KINDS,
    MAMBA2_DERIVED,
    ROLE,
    Mamba2,
    Positionless,
    Write,
    counted,
    mamba2_axes,
    mixer_layer,
    of_sizes,
    state_dtype,
)
from advisor_mcp.errors import CannotAnswer, UsageError, shown

MODEL_TYPES = ("nemotron_h",)
OF = "NemotronHConfig"
KINDS = LAYER_KINDS | {"mlp": "mlp", "moe": "moe"}
LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
EMBEDDINGS = "backbone.embeddings.weight"
DERIVED: dict[str, Terms] = GROUPED_DERIVED | MAMBA2_DERIVED | {"h.pair": ((2, ("h",)),)}


def two_matrices(
    b: Draft, source: str, out: str = "o", prefix: str = "mixer.", axis: Axis = "ffn", role: str = "mlp", bias: bool = False
) -> None:  # fmt: skip
    """An MLP of two matrices around a squared ReLU."""
    tag = "" if axis == "ffn" else f".{axis}"
    b.linear(f"{prefix}up_proj", source, f"up{tag}", (axis, "h"), role, bias)
    b.op("activation", (f"up{tag}",), f"act{tag}", (*b.tokens, axis))
    b.linear(f"{prefix}down_proj", f"act{tag}", out, ("h", axis), role, bias)


@dataclass(frozen=True, slots=True)
class TwoMatrixExperts:
    """Routed experts of two matrices beside a shared one, in the latent width `moe_h` where `latent`."""

    latent: bool
    bias: bool

    def write(self, b: Draft, source: str, prefix: str = "mixer.") -> None:
        """Add the router, the products into and out of the latent space, the experts and the shared expert, into `o`."""
        b.linear(f"{prefix}gate", source, "scores", ("choices", "h"), "router")
        rows: Axes = (*b.tokens, "topk")
        b.op("top_k", ("scores",), "routes", rows)
        width: Axis = "moe_h" if self.latent else "h"
        if self.latent:
            # the reference count has these two among the mixers
            b.linear(f"{prefix}fc1_latent_proj", source, "narrow", ("moe_h", "h"), ROLE, self.bias)
        self._experts(b, "narrow" if self.latent else source, f"{prefix}experts.{{expert}}.", rows, width)
        routed = "expert_sum"
        b.op("combine", ("expert_out", "routes"), routed, (*b.tokens, width))
        if self.latent:
            routed = "routed"
            b.linear(f"{prefix}fc2_latent_proj", "expert_sum", routed, ("h", "moe_h"), ROLE, self.bias)
        two_matrices(b, source, "shared", f"{prefix}shared_experts.", "shared_ffn", "shared_expert", self.bias)
        b.add("shared", routed, "o")

    def _experts(self, b: Draft, source: str, prefix: str, rows: Axes, width: Axis) -> None:
        role, each = "routed_experts", ("expert",)
        b.linear(f"{prefix}up_proj", source, "expert_up", ("moe_ffn", width), role, tokens=rows, copies=each)
        b.op("activation", ("expert_up",), "expert_act", (*rows, "moe_ffn"))
        b.linear(f"{prefix}down_proj", "expert_act", "expert_out", (width, "moe_ffn"), role, tokens=rows, copies=each)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' NemotronHConfig; its list or pattern of layers says how many there are."""
    kinds = counted(c, _kinds(c, "layers_block_type", "layer_types", pattern="hybrid_override_pattern"))
    steps = c.number("num_nextn_predict_layers", default=0, least=0)
    predicting = _predicting(c) if steps else []
    if c.flag("attention_bias"):
        c.notes.append("attention_bias is true, but the class has no biases in its attention")
    mixers = _mixers(c)

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixers[kind], "norm")

    blocks = [
        embedding_block(EMBEDDINGS),
        *by_kind(kinds, layer, "backbone.layers.{layer}."),
        head_block(EMBEDDINGS, False, "backbone.norm_f"),
    ]
    beside = (*_router_biases(kinds), *_prediction(predicting, steps, layer))
    sizes = _axes(c, {*kinds, *predicting})
    return assemble(c, "nemotron_h", blocks, sizes, of_sizes(DERIVED, sizes), False, beside=beside)


def _kinds(c: Config, *lists: str, pattern: str) -> list[str]:
    """The layer kinds of the first list that is given, else of the pattern, one letter per layer."""
    for name in lists:
        if (found := c.entries(name)) is not None:
            return c.layer_kinds(name, len(found), KINDS) or []
    letters = c.text(pattern)
    if letters is None:
        raise CannotAnswer(
            f"the configuration has neither {lists[0]} nor {pattern}, which say what each layer is", needs=[lists[0]]
        )
    if unknown := set(letters) - set(LETTERS):
        raise CannotAnswer(
            f"{pattern} has the letter {shown(min(unknown))}, which is not described for this model type"
        )
    return [LETTERS[letter] for letter in letters]


def _predicting(c: Config) -> list[str]:
    """The layers of one prediction step; the class takes the pattern where the list is its default, or absent."""
    default = ["attention", "moe"]
    if c.entries("mtp_layers_block_type") is None and c.text("mtp_hybrid_override_pattern") is None:
        return default
    return _kinds(c, "mtp_layers_block_type", pattern="mtp_hybrid_override_pattern")


def _mixers(c: Config) -> dict[str, Write]:
    use_bias, mlp_bias = c.flag("use_bias"), c.flag("mlp_bias")
    conv_bias = c.flag("mamba_conv_bias", "use_conv_bias", default=True)
    dtype = state_dtype(c, "mamba_ssm_cache_dtype", "fp32")
    latent = c.optional("moe_latent_size") is not None
    return {
        "mamba": Mamba2(use_bias, use_bias, conv_bias, dtype=dtype).write,
        "attention": partial(Positionless().write, prefix="mixer."),
        "mlp": partial(two_matrices, bias=mlp_bias),
        "moe": TwoMatrixExperts(latent, mlp_bias).write,
    }


def _axes(c: Config, kinds: set[str]) -> dict[str, int]:
    sizes = {"h": c.number("hidden_size"), "vocab": c.number("vocab_size")}
    if "attention" in kinds:
        kv_heads = None if "num_key_value_heads" in c.data else 8
        sizes |= grouped_axes(c, OF, 32, kv_heads, head_dim=c.number("attention_head_dim", default=128))
    if "mamba" in kinds:
        sizes |= mamba2_axes(
            c,
            c.number("mamba_num_heads", default=128, of=OF),
            c.number("mamba_head_dim", default=64, of=OF),
            c.number("mamba_n_groups", "n_groups", default=8, of=OF),
            c.number("ssm_state_size", default=128, of=OF),
            c.number("mamba_d_conv", "conv_kernel", default=4, of=OF),
        )
    if "mlp" in kinds:
        sizes["ffn"] = c.number("intermediate_size")
    if "moe" in kinds:
        sizes |= expert_axes(c, "n_routed_experts")
        sizes["shared_ffn"] = c.number("moe_shared_expert_intermediate_size")
        sizes |= {"moe_h": width} if (width := c.optional("moe_latent_size")) else {}
    return sizes


def _router_bias(b: Draft) -> None:
    b.tensors.append(Tensor(f"{b.prefix}mixer.gate.e_score_correction_bias", ("choices",), "router", dtype="fp32"))


def _router_biases(kinds: Sequence[str]) -> list[Block]:
    """The buffers that steer the routing, one per layer of experts, stored in fp32."""
    layers = tuple(index for index, kind in enumerate(kinds) if kind == "moe")
    b = Draft("router biases", "backbone.layers.{layer}.")
    _router_bias(b)
    return [b.block(layers)] if layers else []


def _prediction(kinds: Sequence[str], steps: int, write: Callable[[Draft, str], None]) -> list[Block]:
    """The multi-token-prediction layers: each step begins with two norms and a product that joins them, ends with a norm."""
    if len(kinds) * steps > MOST_LAYERS:
        raise UsageError(f"num_nextn_predict_layers is {steps}; at most {MOST_LAYERS} layers are described")
    blocks = []
    for place, kind in enumerate(kinds):
        b = Draft("prediction layers", "mtp.layers.{layer}.")
        b.value("x", RESIDUAL)
        write(b, kind)
        if kind == "moe":
            _router_bias(b)
        if place == 0:
            b.tensor("enorm.weight", ("h",), "norm")
            b.tensor("hnorm.weight", ("h",), "norm")
            b.tensor("eh_proj.weight", ("h", "h.pair"), "other", matrix=True)
        if place == len(kinds) - 1:
            b.tensor("final_layernorm.weight", ("h",), "norm")
        blocks.append(Block(b.name, tuple(step * len(kinds) + place for step in range(steps)), tuple(b.tensors)))
    return blocks
