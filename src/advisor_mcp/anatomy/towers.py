"""Vision towers and the projectors that join them to a decoder. Their axes carry the prefix `vision.`."""

from __future__ import annotations

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Block
from advisor_mcp.anatomy.parts import Draft

PATCHES: Axes = ("images", "vision.patches")


def _axes(c: Config, sizes: dict[str, int]) -> tuple[int, int]:
    side, patch = c.number("image_size"), c.number("patch_size")
    per_side = side // patch
    sizes |= {
        "vision.h": c.number("hidden_size"),
        "vision.heads": c.number("num_attention_heads"),
        "vision.ffn": c.number("intermediate_size"),
        "vision.pixels": c.number("num_channels", default=3) * patch * patch,
        "vision.patches": per_side * per_side,
    }
    sizes["vision.hd"] = c.divides(
        sizes["vision.h"], sizes["vision.heads"], "the vision heads do not divide its hidden_size"
    )
    return per_side, patch


def _attention(b: Draft, source: str, prefix: str, out_name: str, bias: bool) -> None:
    for name, out in (("q_proj", "q"), ("k_proj", "k"), ("v_proj", "v")):
        b.linear(f"{prefix}{name}", source, out, ("vision.h", "vision.h"), "vision", bias)
    scores = ("images", "vision.patches", "vision.patches", "vision.h")
    b.op("attention", ("q", "k", "v"), "att", (*PATCHES, "vision.h"), ((4, scores),))
    b.linear(f"{prefix}{out_name}", "att", "o", ("vision.h", "vision.h"), "vision", bias)


def siglip(c: Config, text_width: int, sizes: dict[str, int]) -> list[Block]:
    """SigLIP as Gemma 3 uses it (no pooling head), and Gemma 3's projector: one matrix after one norm."""
    _axes(c, sizes)
    root = "vision_tower.vision_model."
    first = Draft("vision-embedding", f"{root}embeddings.", PATCHES)
    first.linear("patch_embedding", "pixels", "patches", ("vision.h", "vision.pixels"), "vision", bias=True)
    first.tensor("position_embedding.weight", ("vision.patches", "vision.h"), "vision")
    layer = Draft("vision-layer", f"{root}encoder.layers.{{layer}}.", PATCHES)
    layer.norm("layer_norm1", "x", "a", "layer", "vision.h", "vision")
    _attention(layer, "a", "self_attn.", "out_proj", bias=True)
    layer.norm("layer_norm2", "o", "m", "layer", "vision.h", "vision")
    layer.linear("mlp.fc1", "m", "up", ("vision.ffn", "vision.h"), "vision", bias=True)
    layer.linear("mlp.fc2", "up", "y", ("vision.h", "vision.ffn"), "vision", bias=True)
    last = Draft("vision-projector", "", PATCHES)
    last.norm(f"{root}post_layernorm", "x", "n", "layer", "vision.h", "vision")
    last.norm("multi_modal_projector.mm_soft_emb_norm", "n", "p", "rms", "vision.h", "vision")
    last.tensor("multi_modal_projector.mm_input_projection_weight", ("vision.h", text_width), "vision", matrix=True)
    layers = tuple(range(c.layers()))
    return [first.block((0,), "vision"), layer.block(layers, "vision"), last.block((0,), "vision")]


def pixtral(c: Config, text_width: int, merge: int, bias: bool, sizes: dict[str, int]) -> list[Block]:
    """Pixtral's tower (RMSNorm, gated MLP, rotary positions) and Mistral 3's patch-merging projector."""
    _axes(c, sizes)
    first = Draft("vision-embedding", "vision_tower.", PATCHES)
    first.linear("patch_conv", "pixels", "patches", ("vision.h", "vision.pixels"), "vision")
    first.norm("ln_pre", "patches", "x", "rms", "vision.h", "vision")
    layer = Draft("vision-layer", "vision_tower.transformer.layers.{layer}.", PATCHES)
    layer.norm("attention_norm", "x", "a", "rms", "vision.h", "vision")
    _attention(layer, "a", "attention.", "o_proj", bias=False)
    layer.norm("ffn_norm", "o", "m", "rms", "vision.h", "vision")
    layer.linear("feed_forward.gate_proj", "m", "gate", ("vision.ffn", "vision.h"), "vision")
    layer.linear("feed_forward.up_proj", "m", "up", ("vision.ffn", "vision.h"), "vision")
    layer.linear("feed_forward.down_proj", "up", "y", ("vision.h", "vision.ffn"), "vision")
    last = Draft("vision-projector", "multi_modal_projector.", PATCHES)
    last.norm("norm", "x", "n", "rms", "vision.h", "vision")
    sizes["vision.merged"] = sizes["vision.h"] * merge * merge
    last.linear("patch_merger.merging_layer", "n", "merged", ("vision.h", "vision.merged"), "vision")
    last.linear("linear_1", "merged", "p1", (text_width, "vision.h"), "vision", bias)
    last.linear("linear_2", "p1", "p2", (text_width, text_width), "vision", bias)
    layers = tuple(range(c.layers()))
    return [first.block((0,), "vision"), layer.block(layers, "vision"), last.block((0,), "vision")]
