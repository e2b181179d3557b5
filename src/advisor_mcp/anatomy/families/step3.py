"""StepFun's Step-3: queries made through a shared narrow projection, one KV head, stacked experts with a shared one.

Its class comes with the checkpoint; transformers 5.23.0 has none.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.families.step3p7 import Shared, routed_layers
from advisor_mcp.anatomy.inventory import Architecture, Span, Terms
from advisor_mcp.anatomy.parts import Draft, Gated, attend, kv_cache
from advisor_mcp.anatomy.sparse import Layer, mixture_axes, stack
from advisor_mcp.errors import CannotAnswer

MODEL_TYPES = ("step3_vl", "step3_text")
DERIVED: dict[str, Terms] = {"q": ((1, ("qh", "hd")),)}
NO_TOWER = "Step-3's vision tower, which has no description here, is not counted"


@dataclass(frozen=True, slots=True)
class Factored:
    """Attention whose queries pass through `q_rank` channels and a norm, over one key and one value head."""

    def write(self, b: Draft, source: str, span: Span, prefix: str = "self_attn.") -> None:
        """Add the projections, the attention, its cache and the output product."""
        b.linear(f"{prefix}q_proj", source, "qs", ("q_rank", "h"), "attention")
        b.linear(f"{prefix}k_proj", source, "k", ("hd", "h"), "attention")
        b.linear(f"{prefix}v_proj", source, "v", ("hd", "h"), "attention")
        b.norm(f"{prefix}inter_norm", "qs", "qsn", axis="q_rank")
        b.linear(f"{prefix}wq", "qsn", "q", ("q", "q_rank"), "attention")
        b.op("rope", ("q", "k"), "qr", (*b.tokens, "q"))
        attend(b, span, reads=("qr", "k", "v"))
        b.caches.append(kv_cache(span, ((2, ("hd",)),)))
        b.linear(f"{prefix}o_proj", "att", "o", ("h", "q"), "attention")


def describe(c: Config) -> Architecture:
    """A Step3TextConfig, alone or as the text_config of Step-3."""
    family = c.text("model_type") or "step3_vl"
    text = c.part("text_config") if family == "step3_vl" else c
    if text is None:
        raise CannotAnswer("the configuration has no text_config, which this model type needs", needs=["text_config"])
    if (groups := text.number("num_attention_groups", "num_key_value_heads", default=1)) != 1:
        raise CannotAnswer(f"num_attention_groups is {groups}; Step-3 is described with 1")
    sizes = {
        "h": text.number("hidden_size"),
        "vocab": text.number("vocab_size"),
        "qh": text.number("num_attention_heads"),
        "hd": text.number("head_dim"),
    }
    sizes["q_rank"] = text.number("share_q_dim", default=sizes["hd"])
    layers = text.layers()
    routed = routed_layers(text, range(1, layers))
    kinds = ["moe" if index in routed else "dense" for index in range(layers)]
    if "dense" in kinds:
        sizes["ffn"] = text.number("intermediate_size")
    if "moe" in kinds:
        sizes |= mixture_axes(text, "moe_num_experts", None, used=("moe_top_k", "num_experts_per_tok"))
        sizes["shared_ffn"] = text.number("share_expert_dim", "share_expert_dims")
    table = {"dense": Layer(Factored(), Gated()), "moe": Layer(Factored(), Shared())}
    tied = c.flag("tie_word_embeddings", default=text.flag("tie_word_embeddings"))
    missing = (NO_TOWER,) if family == "step3_vl" else ()
    return stack(c, family, kinds, table, sizes, DERIVED, tied=tied, not_described=missing)
