"""Mamba and Falcon Mamba: nothing but norms and selective state spaces, the head tied to the embeddings."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Architecture
from advisor_mcp.anatomy.parts import Draft, assemble, by_kind, embedding_block, head_block
from advisor_mcp.anatomy.recurrent import MAMBA1_DERIVED, Mamba1, expanded, mixer_layer, time_step_rank

MODEL_TYPES = ("mamba", "falcon_mamba")
CLASSES = {"mamba": "MambaConfig", "falcon_mamba": "FalconMambaConfig"}
EMBEDDINGS = "backbone.embeddings.weight"


def describe(c: Config) -> Architecture:
    """A configuration of transformers' MambaConfig or FalconMambaConfig; an intermediate_size comes before `expand`."""
    family = c.text("model_type") or "mamba"
    of = CLASSES[family]
    h = c.number("hidden_size")
    sizes = {
        "h": h,
        "inner": c.number("intermediate_size", default=expanded(c, h, of)),
        "state": c.number("state_size", default=16, of=of),
        "conv_kernel": c.number("conv_kernel", default=4, of=of),
        "dt_rank": time_step_rank(c, h, "time_step_rank"),
        "vocab": c.number("vocab_size"),
    }
    mixer = Mamba1(
        c.flag("use_bias"), c.flag("use_conv_bias", default=True), norms="bare" if family == "falcon_mamba" else ""
    )

    def layer(b: Draft, kind: str) -> None:
        mixer_layer(b, mixer.write, "norm")

    tied = c.flag("tie_word_embeddings", default=True)
    blocks = [
        embedding_block(EMBEDDINGS),
        *by_kind(["mamba"] * c.layers(), layer, "backbone.layers.{layer}."),
        head_block(EMBEDDINGS, tied, "backbone.norm_f"),
    ]
    return assemble(c, family, blocks, sizes, MAMBA1_DERIVED, tied, spans=())
