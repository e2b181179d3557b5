"""What stands between a tower and a decoder: chains of matrices, and when a wrapper's head is tied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.inventory import Axes, Axis, Block
from advisor_mcp.anatomy.multimodal import filled, renamed, with_fields
from advisor_mcp.anatomy.parts import Draft, Norm
from advisor_mcp.anatomy.towers import siglip_encoder

JOINED: Axes = ("images", "vision.joined_patches")
# transformers 5.23.0; also the default of a wrapper's vision_config that gives no fields
SIGLIP2 = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16,
    "num_patches": 256, "vision_use_head": True,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Projector:
    """Two matrices with an activation between them, and a norm before the first where `norm` names one.

    With `gated` the activation multiplies one half of the first product with the other. `norm_axis` is what the norm is
    over where that is not what the first matrix reads (a norm before patches are joined).
    """

    prefix: str = "multi_modal_projector."
    names: tuple[str, str] = ("linear_1", "linear_2")
    bias: bool = True
    norm: str = ""
    norm_kind: Norm = "layer"
    norm_axis: Axis | None = None
    gated: bool = False
    tower: str = "vision"

    def block(self, sizes: dict[str, int], into: int, between: int, out: int, tokens: Axes = JOINED) -> Block:
        """The block from `into` over `between` to `out`; adds the axes of the first two."""
        wide, middle, half = (f"{self.tower}.{name}" for name in ("joined", "between", "half"))
        sizes |= {wide: into, middle: between}
        b = Draft(f"{self.tower}-projector", self.prefix, tokens)
        source = "x"
        if self.norm:
            b.norm(self.norm, "x", "n", self.norm_kind, self.norm_axis or wide, self.tower, (*tokens, wide))
            source = "n"
        b.linear(self.names[0], source, "p1", (middle, wide), self.tower, self.bias)
        last = middle
        if self.gated:
            sizes[half] = between // 2
            last = half
        b.op("gate" if self.gated else "activation", ("p1",), "pa", (*tokens, last))
        b.linear(self.names[1], "pa", "p2", (out, last), self.tower, self.bias)
        return b.block((0,), self.tower)


def tied_either(c: Config, text: Config, default: bool = False) -> bool:
    """Whether the head is the embedding where both levels may say so: it is when one does, and not when one denies it alone."""
    said = [part.flag("tie_word_embeddings") for part in (c, text) if part.given("tie_word_embeddings")]
    return any(said) if said else default


def siglip2(c: Config, sizes: dict[str, int], root: str) -> list[Block]:
    """SigLIP 2 for images of any size: patches come flattened to a matrix, and the table of positions has `num_patches` rows."""
    c = filled(c, "Siglip2VisionConfig", SIGLIP2)
    patch = c.number("patch_size")
    tower = siglip_encoder(with_fields(c, image_size=patch), sizes, root, c.flag("vision_use_head", default=True))
    sizes["vision.patches"] = c.number("num_patches")
    sizes["vision.pixels"] = c.number("num_channels", default=3) * patch * patch
    first = Draft("vision-embedding", f"{root}embeddings.", ("images", "vision.patches"))
    first.linear("patch_embedding", "pixels", "x", ("vision.h", "vision.pixels"), "vision", bias=True)
    first.tensor("position_embedding.weight", ("vision.patches", "vision.h"), "vision")
    return [first.block((0,), "vision"), *tower[1:]]


def rooted(blocks: Sequence[Block], old: str, new: str) -> list[Block]:
    """The blocks of a tower under another root."""
    return [renamed(block, {old: new}) for block in blocks]
