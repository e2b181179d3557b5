"""LongCat-Flash: two latent attentions and two MLPs a layer, and beside them experts, some of which do nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture, Span
from advisor_mcp.anatomy.parts import Attention, Draft, Experts, Feed, Gated, Latent
from advisor_mcp.anatomy.sparse import (
    LATENT_DERIVED,
    Beside,
    Filled,
    Layer,
    latent_axes,
    mixture_axes,
    stack,
)
from advisor_mcp.anatomy.variants import Order
from advisor_mcp.errors import CannotAnswer, shown

MODEL_TYPES = ("longcat_flash",)
DEFAULTS = {
    "num_attention_heads": 64, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "moe_topk": 12, "n_routed_experts": 512, "zero_expert_num": 256, "expert_ffn_hidden_size": 2048,
}  # fmt: skip
EXPERTS = Experts("mlp.router.classifier")


@dataclass(frozen=True, slots=True)
class Doubled(Order):
    """LongCat's layer: attention, MLP, attention, MLP; the experts read what the first MLP reads and are added last."""

    def write(self, b: Draft, attention: Attention, feed: Feed, span: Span) -> None:
        """Add a whole layer; `attention` and `feed` are of the kinds that take a prefix."""
        if not isinstance(attention, Latent) or not isinstance(feed, Gated):
            raise TypeError("LongCat's layer is made of latent attention and gated MLPs")
        stream = "x"
        for part in (0, 1):
            b.norm(f"input_layernorm.{part}", stream, f"a{part}")
            sub = Draft(b.name, b.prefix, b.tokens)
            attention.write(sub, f"a{part}", span, f"self_attn.{part}.")
            _include(b, sub, f"{part}", f"a{part}")
            b.add(stream, f"o.{part}", f"r{part}")
            b.norm(f"post_attention_layernorm.{part}", f"r{part}", f"m{part}")
            if part == 0:
                EXPERTS.write(b, "m0")
            mlp = Draft(b.name, b.prefix, b.tokens)
            feed.write(mlp, f"m{part}", prefix=f"mlps.{part}.")
            _include(b, mlp, f"{part}", f"m{part}")
            stream = f"x{part + 1}"
            b.add(f"r{part}", f"y.{part}", stream)
        b.add(stream, "routed", "out")


def _include(b: Draft, part: Draft, mark: str, source: str) -> None:
    """Add a part whose values would have the names of an earlier one: each gets the mark."""

    def name(value: str) -> str:
        return value if value == source else f"{value}.{mark}"

    b.tensors.extend(part.tensors)
    b.caches.extend(part.caches)
    for value, made in part.values.items():
        b.values.setdefault(name(value), made)
    for op in part.ops:
        b.ops.append(replace(op, out=tuple(map(name, op.out)), reads=tuple(map(name, op.reads))))


def describe(c: Config) -> Architecture:
    """A configuration of transformers' LongcatFlashConfig (5.23.0).

    A token's experts may be those that do nothing: active parameters are the most that a token can use.
    """
    f = Filled(c, "LongcatFlashConfig", DEFAULTS)
    if (kind := f.text("zero_expert_type")) not in (None, "identity"):
        raise CannotAnswer(f"zero_expert_type is {shown(kind)}; LongCat-Flash is described with identity experts")
    if f.flag("router_bias"):
        raise CannotAnswer("LongCat-Flash is described without router_bias")
    sizes = latent_axes(f, f.number("q_lora_rank")) | {"vocab": f.number("vocab_size")}
    sizes["ffn"] = f.number("ffn_hidden_size", "intermediate_size")
    sizes |= mixture_axes(f, shared=None, width="expert_ffn_hidden_size", used=("moe_topk", "num_experts_per_tok"))
    idle = f.number("zero_expert_num", least=0)
    sizes["choices"] = sizes["expert"] + idle
    c.notes.append(
        f"active parameters are those of a token none of whose {sizes['topk']} experts is one of the {idle} idle"
    )
    latent = Latent(q_compressed=True, bias=f.flag("attention_bias"))
    layers = f.layers("num_layers") if f.given("num_layers") else f.layers("num_hidden_layers") // 2
    table = {"moe": Layer(latent, Gated())}
    beside = Beside("mlp.router.e_score_correction_bias")
    return stack(
        c, "longcat_flash", ["moe"] * max(layers, 1), table, sizes, LATENT_DERIVED, order=Doubled(), beside=beside
    )
