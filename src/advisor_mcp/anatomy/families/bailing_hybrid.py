"""inclusionAI's Ling 3: Kimi Delta Attention at full rank, latent attention with a gate in every sixth layer, and experts."""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.qwen3_next import LAYER_KINDS
from advisor_mcp.anatomy.inventory import Architecture, Cache, Span
from advisor_mcp.anatomy.parts import Attention, Draft, Feed, Gated, Latent, attend
from advisor_mcp.anatomy.recurrent_delta import DERIVED as DELTA_DERIVED
from advisor_mcp.anatomy.recurrent_delta import (
    ROLE,
    convolve_each,
    delta_axes,
    delta_caches,
    gated_norm,
    scan,
    state_dtype,
)
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    MLP_KINDS,
    Beside,
    Filled,
    Layer,
    latent_axes,
    mixture,
    mixture_axes,
    prediction_layers,
    stack,
)
from advisor_mcp.anatomy.variants import Names

MODEL_TYPES = ("bailing_hybrid",)
DEFAULTS = {
    "num_attention_heads": 32, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
    "head_dim": 128, "short_conv_kernel_size": 4, "layer_group_size": 6, "num_experts": 512, "num_shared_experts": 1,
    "num_experts_per_token": 8, "moe_intermediate_size": 768, "num_nextn_predict_layers": 1,
}  # fmt: skip
NAMES = Names(embedding="model.word_embeddings.weight")
PREDICTION = "the prediction layer (num_nextn_predict_layers) that the checkpoint holds beside the model"


@dataclass(frozen=True, slots=True)
class FullRankDelta:
    """Kimi Delta Attention whose decay and output gate are made by one product each."""

    dtype: str

    def write(self, b: Draft, source: str, span: Span, prefix: str = "attention.") -> None:
        """Add the projections, the convolutions, the recurrence with its state, the gated norm and the output product."""
        for letter, axis in (("q", "delta_k"), ("k", "delta_k"), ("v", "delta_v"), ("f", "delta_k")):
            b.linear(f"{prefix}{letter}_proj", source, letter, (axis, "h"), ROLE)
        b.linear(f"{prefix}b_proj", source, "b", ("delta_vh", "h"), ROLE)
        b.linear(f"{prefix}g_proj", source, "g", ("delta_v", "h"), ROLE)
        convolve_each(b, prefix)
        decay = [b.tensor(f"{prefix}A_log", ("delta_vh",), ROLE), b.tensor(f"{prefix}dt_bias", ("delta_k",), ROLE)]
        scan(b, ("mixed", "f", "b"), "core", decay)
        b.caches.extend(delta_caches(self.dtype))
        gated_norm(b, f"{prefix}o_norm", "g")
        b.linear(f"{prefix}o_proj", "core_gated", "o", ("h", "delta_v"), ROLE)


@dataclass(frozen=True, slots=True)
class GatedLatent:
    """Latent attention whose heads are scaled by a gate each."""

    latent: Latent

    def write(self, b: Draft, source: str, span: Span, prefix: str = "attention.") -> None:
        """Add the projections, the attention, its gate, the latent cache and the output product."""
        self.latent.project(b, source, prefix)
        attend(b, span, key_dim="qk_dim", value_dim="v_dim", reads=("qr", "kva", "kvb"))
        b.caches.append(Cache("latent", entry=((1, ("latent",)),)))
        b.linear(f"{prefix}g_proj", source, "og", ("qh", "h"), "attention")
        b.op("gate", ("att", "og"), "gated", (*b.tokens, "v"))
        b.linear(f"{prefix}dense", "gated", "o", ("h", "v"), "attention", self.latent.bias)


def describe(c: Config) -> Architecture:
    """A configuration of transformers' BailingHybridConfig (5.23.0)."""
    f = Filled(c, "BailingHybridConfig", DEFAULTS)
    sizes = latent_axes(f, None) | {"vocab": f.number("vocab_size")}
    heads, width = f.number("linear_num_heads", default=sizes["qh"]), f.number("linear_head_dim", "head_dim")
    kernel = f.number("linear_conv_kernel_dim", "short_conv_kernel_size")
    sizes |= delta_axes(f, heads, heads, width, width, kernel)
    feeds = _feeds(f)
    parts: dict[str, Feed] = {"dense": Gated()}
    if "dense" in feeds:
        sizes["ffn"] = f.number("intermediate_size")
    if "moe" in feeds:
        used = ("num_experts_per_token", "num_experts_per_tok")
        shared = "n_shared_experts" if f.given("n_shared_experts") else "num_shared_experts"
        sizes |= mixture_axes(f, "num_experts", shared, used=used)
        parts["moe"] = mixture(sizes)
    mixers: dict[str, Attention] = {
        "linear": FullRankDelta(state_dtype(f)), "full": GatedLatent(Latent(False, f.flag("attention_bias")))
    }  # fmt: skip
    table = {f"{feed}-{mixer}": Layer(mixers[mixer], parts[feed]) for feed in parts for mixer in mixers}
    kinds = [f"{feed}-{mixer}" for feed, mixer in zip(feeds, _mixers(f), strict=True)]
    missing = (PREDICTION,) if prediction_layers(f, "num_nextn_predict_layers", "num_mtp_layers") else ()
    # the class ties nothing, whatever tie_word_embeddings says
    return stack(
        f, "bailing_hybrid", kinds, table, sizes, LATENT_DERIVED | DELTA_DERIVED, names=NAMES, tied=False,
        beside=Beside("mlp.gate.expert_bias"), not_described=missing,
    )  # fmt: skip


def _feeds(f: Filled) -> list[str]:
    listed = f.layer_kinds("mlp_layer_types", f.layers(), MLP_KINDS)
    dense = f.number("first_k_dense_replace", default=2, least=0)
    return listed or ["dense" if index < dense else "moe" for index in range(f.layers())]


def _mixers(f: Filled) -> list[str]:
    listed = f.layer_kinds("layer_types", f.layers(), LAYER_KINDS)
    group = f.number("layer_group_size")
    return listed or ["linear" if (index + 1) % group else "full" for index in range(f.layers())]
