"""GGUF files: which block format each tensor gets in each of llama.cpp's quantisation mixes.

The rules are those of llama.cpp's src/llama-quant.cpp at 007dbbf (llama_tensor_get_type_impl, tensor_allows_quantization,
tensor_type_fallback), of conversion/base.py at 00bd27a for what stays in 32 bits, and of conversion/deepseek.py at 01a723d
for latent attention. IQ types and Q2_K_S are taken as made with an importance matrix, all others without.
Not counted: the padding of tensors to 32 bytes, and the table of rotary factors that files of Llama 3.1 and Phi 3 hold
(half the head size in fp32).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from advisor_mcp.anatomy.gguf_types import GGUF_TYPES
from advisor_mcp.anatomy.inventory import Architecture, Block, Sizes, Tensor
from advisor_mcp.errors import CannotAnswer, UsageError, nearest
from advisor_mcp.formulas.precision import Coding

BLOCKS = {name: (values, size) for name, values, size in GGUF_TYPES.values()}
# the format of a mix where no rule says otherwise
MIXES: dict[str, str] = {
    "q8_0": "Q8_0", "q6_k": "Q6_K", "q5_k_m": "Q5_K", "q5_k_s": "Q5_K", "q5_1": "Q5_1", "q5_0": "Q5_0",
    "q4_k_m": "Q4_K", "q4_k_s": "Q4_K", "q4_1": "Q4_1", "q4_0": "Q4_0", "q3_k_l": "Q3_K", "q3_k_m": "Q3_K",
    "q3_k_s": "Q3_K", "q2_k": "Q2_K", "q2_k_s": "Q2_K", "iq4_xs": "IQ4_XS", "iq4_nl": "IQ4_NL", "iq3_m": "IQ3_S",
    "iq3_s": "IQ3_S", "iq3_xs": "IQ3_S", "iq3_xxs": "IQ3_XXS", "iq2_m": "IQ2_S", "iq2_s": "IQ2_XS", "iq2_xs": "IQ2_XS",
    "iq2_xxs": "IQ2_XXS", "iq1_m": "IQ1_M", "iq1_s": "IQ1_S", "mxfp4_moe": "MXFP4",
}  # fmt: skip
SMALLEST = ("iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq1_s", "iq1_m")  # their rules stand apart
WITH_MATRIX = {"q4_0": "Q4_1", "q5_0": "Q5_1"}  # what an importance matrix makes of the first eighth of ffn_down
WITHOUT_MATRIX = ("iq4_nl", "iq4_xs")
FALLBACKS = {
    "IQ1_S": "IQ4_NL", "IQ1_M": "IQ4_NL", "IQ2_XXS": "IQ4_NL", "IQ2_XS": "IQ4_NL", "IQ2_S": "IQ4_NL", "IQ3_XXS": "IQ4_NL",
    "IQ3_S": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
# families whose sizes were compared with published files; of others the names are mapped and nothing is known to differ
COMPARED = frozenset({"llama", "mistral", "qwen2", "qwen3_moe", "gemma3_text", "gpt_oss"})
SEVENTY_B = frozenset({"llama", "mistral", "qwen2", "qwen2_vl", "qwen2_5_vl", "nemotron-nas"})  # of 80 layers
# categories of llama-quant.cpp by the last module of a tensor's name; a name may stand for several tensors of a file
ATTENTION = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "output", "out_proj": "output", "dense": "output",
    "wo": "output", "qkv_proj": "qkv", "Wqkv": "qkv", "query_key_value": "qkv", "c_attn": "qkv", "c_proj": "output",
    "att_proj": "qkv", "attn_out": "output", "W_pack": "joined", "wqkv": "joined", "in_proj_qkv": "qkv",
}  # fmt: skip
FEED = {
    "gate_proj": "gate", "up_proj": "up", "down_proj": "down", "gate_up_proj": "up", "w1": "gate", "w3": "up", "w2": "down",
    "v1": "up", "c_fc": "up", "c_proj": "down", "fc1": "up", "fc2": "down", "fc_in": "up", "fc_out": "down",
    "dense_h_to_4h": "up", "dense_4h_to_h": "down",
}  # fmt: skip
FEED_ROLES = ("mlp", "routed_experts", "shared_expert")
NEVER = re.compile(r"altup|laurel|per_layer_model_projection|conv1d|rel_pos|patch_|position|attention_bias")
WIDE = re.compile(r"conv1d|A_log$|\.D$|dt_bias$|correct_coefs|prediction_coefs|\.bias$|_bias$|sinks$")
F32, F16, NOTHING = (Coding(name, bits, word=0) for name, bits in (("F32", 32), ("F16", 16), ("nothing", 0)))


def coding_of(kind: str) -> Coding:
    """A block format: its scales are inside the blocks, so a rate in bits per value says all."""
    values, size = BLOCKS[kind]
    return Coding(kind, size * 8 / values, word=0)


@dataclass
class Counts:
    """What the rules look at beside a tensor: the mix, the model, and how many tensors of a kind went before."""

    mix: str
    family: str
    layers: int
    experts: int
    shared: float
    tied: bool
    values: int
    seen: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    @property
    def grouped(self) -> bool:
        """Whether four or more query heads share a KV head."""
        return self.shared >= 4

    def before(self, kind: str) -> int:
        """How many tensors of this kind went before, counting this one from now on."""
        number = self.seen.get(kind, 0)
        self.seen[kind] = number + 1
        return number

    @property
    def eight(self) -> bool:
        """Mixtral's number of experts, which some rules single out."""
        return self.experts == 8


@dataclass(frozen=True)
class Part:
    """A tensor of the file: a part of one of ours, `share` of its values, with rows of `columns` values."""

    name: str
    category: str
    columns: int
    share: int = 1
    layer: int = -1


def mix(architecture: Architecture, name: str) -> tuple[dict[Tensor, tuple[tuple[Coding | None, int], ...]], str]:
    """The codings of every tensor in a GGUF file of this mix, with the values or layers of each, and what is approximate.

    Raises `UsageError` for a mix that is not known.
    """
    if name not in MIXES:
        raise UsageError(f"unknown quantization {name!r}{nearest(name, MIXES)}; GGUF types are {', '.join(MIXES)}")
    sizes = architecture.bound()
    counts = _counts(architecture, name, sizes)
    found: dict[Tensor, dict[Coding | None, int]] = {}
    for tensor, part in _in_file_order(architecture, sizes, counts):
        each = found.setdefault(tensor, {})
        coding = _coding(part, tensor, counts)
        each[coding] = each.get(coding, 0) + part.share
    codings = {tensor: tuple(each.items()) for tensor, each in found.items()}
    return codings | _beside(architecture, codings), _note(architecture, counts)


def _beside(
    architecture: Architecture, codings: Mapping[Tensor, Any]
) -> dict[Tensor, tuple[tuple[Coding | None, int], ...]]:
    """What lies beside the model: of the buffers of routers those of its own layers, of prediction layers nothing."""
    found: dict[Tensor, tuple[tuple[Coding | None, int], ...]] = {}
    for block in architecture.beside:
        own = sum(layer < architecture.layers for layer in block.layers)
        for tensor in block.tensors:
            held = own if tensor.role == "router" and len(tensor.axes) == 1 else 0
            if tensor not in codings:
                found[tensor] = ((F32, held), (NOTHING, block.repeat - held))
    return found


def _counts(architecture: Architecture, name: str, sizes: Sizes) -> Counts:
    heads, kv = sizes.get("qh", 1), sizes.get("kvh", 1 if "kv_rank" in sizes else sizes.get("qh", 1))
    roles = {tensor.role for _, tensor in architecture.tensors()}
    counts = Counts(
        name, architecture.family, architecture.layers, int(sizes.get("expert", 0)), heads / max(kv, 1),
        "lm_head" not in roles, 0,
    )  # fmt: skip
    counts.values = sum(
        part.category in ("v", "qkv", "kv_b") for _, part in _in_file_order(architecture, sizes, counts)
    )
    return counts


def _in_file_order(architecture: Architecture, sizes: Sizes, counts: Counts) -> Iterator[tuple[Tensor, Part]]:
    """Every tensor of the file by layer, then by name: rules count the tensors that went before."""
    layered: list[tuple[int, str, Tensor, Part]] = []
    for block in architecture.blocks:
        for tensor in block.tensors:
            for layer in block.layers if "{layer}" in tensor.name else (-1,):
                parts = _parts(block, tensor, sizes, counts)
                layered += [(layer, part.name, tensor, replace(part, layer=layer)) for part in parts]
    layered.sort(key=lambda each: each[:2])
    return ((tensor, part) for _, _, tensor, part in layered)


def _parts(block: Block, tensor: Tensor, sizes: Sizes, counts: Counts) -> list[Part]:
    """The file's tensors that one of ours becomes in one layer."""
    if block.tower is not None or tensor.role in ("vision", "audio"):
        return [Part("tower", "wide" if len(tensor.axes) < 2 else "half", 1)]
    columns = _columns(tensor, sizes)
    path = tensor.name.removesuffix(".weight").split(".")
    last, wide = path[-1], len(tensor.axes) < 2 or tensor.role in ("norm", "qk_norm", "position_embedding", "router")
    if wide or WIDE.search(tensor.name):
        return [Part(last, "wide", columns)]
    if NEVER.search(tensor.name):
        return [Part(last, "half", columns)]
    if tensor.role == "lm_head":
        return [Part("output", "head", columns)]
    if tensor.role in ("token_embedding", "per_layer_embedding"):
        return [Part("token_embd", "embedding", columns)]
    return _matrix_parts(tensor, last, columns, sizes, counts)


def _columns(tensor: Tensor, sizes: Sizes) -> int:
    """Values of one row of the file: a matrix has its inputs last there, also where the checkpoint has its outputs last."""
    from advisor_mcp.formulas.precision import is_swapped

    axis = tensor.axes[-2] if len(tensor.axes) > 1 and is_swapped(tensor) else tensor.axes[-1]
    return int(sizes[axis]) if isinstance(axis, str) else axis


def _matrix_parts(tensor: Tensor, last: str, columns: int, sizes: Sizes, counts: Counts) -> list[Part]:
    if tensor.role in FEED_ROLES and last in FEED:
        suffix = {"routed_experts": "_exps", "shared_expert": "_shexp"}.get(tensor.role, "")
        kind = FEED[last]
        if last == "gate_up_proj" and suffix == "_exps":
            return [Part("ffn_gate_exps", "gate", columns), Part("ffn_up_exps", "up", columns)]
        return [Part(f"ffn_{kind}{suffix}", kind, columns)]
    if last == "kv_b_proj" and "nope_dim" in sizes:
        return _latent_parts(columns, sizes, counts)
    if tensor.role == "attention" and last in ATTENTION:
        if ATTENTION[last] == "joined":
            q, kv = int(sizes["q"]), int(sizes["kv"])
            return [Part("attn_q", "q", columns, q), Part("attn_k", "k", columns, kv), Part("attn_v", "v", columns, kv)]
        return [Part(f"attn_{ATTENTION[last]}", ATTENTION[last], columns)]
    if last in ("in_proj_qkv", "in_proj_qkvz"):
        return _delta_parts(tensor, last, columns, sizes)
    if tensor.role in FEED_ROLES or (tensor.role == "attention" and last not in LATENT):
        counts.unknown.add(last)
    return [Part(last, "other", columns)]


LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "g_proj")


def _latent_parts(columns: int, sizes: Sizes, counts: Counts) -> list[Part]:
    """The up-projection of latent attention: keys and values apart, the keys' turned; some families keep it whole."""
    if counts.family == "minicpm3":
        return [Part("attn_kv_b", "kv_b", columns)]
    nope, value = int(sizes["nope_dim"]), int(sizes["v_dim"])
    return [Part("attn_k_b", "other", nope, nope), Part("attn_v_b", "other", columns, value)]


def _delta_parts(tensor: Tensor, last: str, columns: int, sizes: Sizes) -> list[Part]:
    """The input projection of gated delta attention: queries, keys and values in one tensor, the gate in another."""
    if last == "in_proj_qkv":
        return [Part("attn_qkv", "qkv", columns)]
    gate = int(sizes["delta_v"])
    axis = tensor.axes[0]
    joined = (int(sizes[axis]) if isinstance(axis, str) else axis) - gate
    return [Part("attn_gate", "other", columns, gate), Part("attn_qkv", "qkv", columns, joined)]


def _coding(part: Part, tensor: Tensor, counts: Counts) -> Coding:
    if part.category == "wide":
        return F32
    if part.category == "half":
        return F16
    kind = _kind(part, tensor, counts)
    if part.columns % BLOCKS[kind][0] == 0:
        return coding_of(kind)
    if kind not in FALLBACKS:
        raise CannotAnswer(
            f"{part.name} has rows of {part.columns:,} values, which {kind} cannot hold; give another GGUF type"
        )
    kind = FALLBACKS[kind]
    return F16 if part.columns % BLOCKS[kind][0] else coding_of(kind)


def _kind(part: Part, tensor: Tensor, counts: Counts) -> str:
    """The block format that the mix gives a tensor, its shape aside."""
    default, name = MIXES[counts.mix], counts.mix
    if part.category == "head" or (counts.tied and part.category == "embedding"):
        return _head(part, default, counts)
    if name == "mxfp4_moe":
        return "MXFP4" if tensor.role == "routed_experts" else "Q8_0"
    if part.category == "embedding":
        return EMBEDDINGS.get(name, default)
    if name in SMALLEST:
        return _smallest(part, default, counts)
    if part.category in ("v", "qkv", "kv_b"):
        return _values(part, default, counts)
    rule = RULES.get(part.category)
    return rule(part, default, counts) if rule else default


EMBEDDINGS = {
    "iq2_xxs": "Q2_K", "iq2_xs": "Q2_K", "iq1_s": "Q2_K", "iq1_m": "Q2_K", "iq2_s": "IQ3_S", "iq2_m": "IQ3_S",
    "iq3_xxs": "IQ3_S",
}  # fmt: skip


def _head(part: Part, default: str, counts: Counts) -> str:
    if counts.mix == "mxfp4_moe" or counts.family == "falcon" or part.columns % BLOCKS[default][0]:
        return "Q8_0"
    if counts.mix in (*SMALLEST, "iq3_xxs"):
        return "Q5_K"
    return "Q8_0" if default == "Q8_0" else "Q6_K"


def _smallest(part: Part, default: str, counts: Counts) -> str:
    """The mixes of 1 and 2 bits."""
    better = counts.mix in ("iq2_s", "iq2_m")
    if part.category in ("v", "qkv", "kv_b"):
        return "Q4_K" if counts.grouped or counts.experts >= 4 else "IQ3_S" if better else "Q2_K"
    if part.category == "k" and counts.eight:
        return "Q4_K"
    if part.category == "down":
        early = counts.before("down") < counts.layers // 8
        return ("IQ3_S" if better else "Q2_K") if early else default
    if part.category == "output":
        if counts.eight:
            return "Q5_K"
        return "IQ2_XXS" if counts.mix in ("iq1_s", "iq1_m") else "IQ3_S" if better else default
    return default


def _more(layer: int, layers: int) -> bool:
    """The layers that the medium mixes give more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _values(part: Part, default: str, counts: Counts) -> str:
    name, layer, kind = counts.mix, counts.before("v"), default
    if name == "q2_k":
        kind = "Q4_K" if counts.grouped else "Q3_K"
    elif name in ("q2_k_s", "iq3_xs", "iq3_s") and counts.grouped:
        kind = "Q4_K"
    elif name == "iq3_xxs":
        kind = "Q4_K" if counts.grouped else "IQ3_XXS"
    elif name == "iq3_m":
        kind = "Q4_K"
    elif name == "q3_k_m":
        kind = "Q5_K" if layer < 2 else "Q4_K"
    elif name == "q3_k_l" or (name in ("iq4_nl", "iq4_xs") and counts.grouped) or (name == "q4_k_s" and layer < 4):
        kind = "Q5_K"
    elif name in ("q4_k_m", "q5_k_m") and _more(layer, counts.values):
        kind = "Q6_K"
    if counts.layers == 80 and counts.family in SEVENTY_B and counts.shared > 1 and kind in ("Q3_K", "Q4_K"):
        kind = "Q5_K"
    return "Q8_0" if counts.eight else kind


def _queries(part: Part, default: str, counts: Counts) -> str:
    return {"iq3_xs": "IQ3_XXS", "iq3_xxs": "IQ2_S"}.get(counts.mix, default)


def _keys(part: Part, default: str, counts: Counts) -> str:
    return "Q8_0" if counts.eight else _queries(part, default, counts)


def _layer(part: Part, counts: Counts) -> int:
    """The layer as the rules see it: its number in mixtures of experts, else how many such tensors went before."""
    before = counts.before(part.category)
    return part.layer if counts.experts > 1 else before


def _down(part: Part, default: str, counts: Counts) -> str:
    """The second matrix of a feed-forward part: the one that suffers most from few bits."""
    layer, layers, name, falcon = _layer(part, counts), counts.layers, counts.mix, counts.family == "falcon"
    early, more = layer < layers // 8, _more(layer, layers)
    if name == "q3_k_m":
        return "Q5_K" if layer < layers // 16 else "Q4_K" if not falcon or more else "Q3_K"
    if name == "q4_k_m" and falcon:
        return "Q6_K" if layer < layers // 16 else "Q5_K" if more else "Q4_K"
    if name in ("q4_k_m", "q5_k_m"):
        return "Q6_K" if more else default
    if name in ("q2_k", "q3_k_l"):
        return "Q3_K" if name == "q2_k" else "Q4_K" if falcon else "Q5_K"
    if name == "iq3_m":
        return "Q4_K" if early or (counts.eight and more) else default
    if name == "q2_k_s" and early:
        return "Q4_K"
    if name == "q4_k_s" and not falcon and early:
        return "Q5_K"
    return default


OUTPUTS = {"q2_k": "Q3_K", "iq3_xxs": "IQ3_S", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K", "iq3_m": "Q4_K"}
EIGHT_OUTPUTS = (
    "q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s", "iq3_m", "iq4_xs",
)  # fmt: skip


def _output(part: Part, default: str, counts: Counts) -> str:
    if counts.family == "falcon":
        return "Q4_K" if counts.mix == "q3_k_l" else default
    if counts.eight:
        return "Q5_K" if counts.mix in EIGHT_OUTPUTS else default
    return OUTPUTS.get(counts.mix, default)


def _gate_or_up(part: Part, default: str, counts: Counts) -> str:
    layer, layers = _layer(part, counts), counts.layers
    return "IQ3_XXS" if counts.mix == "iq3_xs" and layers // 8 <= layer < 7 * layers // 8 else default


RULES: Mapping[str, Callable[[Part, str, Counts], str]] = {
    "q": _queries, "k": _keys, "down": _down, "output": _output, "gate": _gate_or_up, "up": _gate_or_up,
}  # fmt: skip


def _note(architecture: Architecture, counts: Counts) -> str:
    said = []
    if counts.mix in WITH_MATRIX:
        said.append(f"made with an importance matrix, the first eighth of ffn_down would be {WITH_MATRIX[counts.mix]}")
    if counts.mix in WITHOUT_MATRIX:
        said.append("made without an importance matrix, the first eighth of ffn_down would be Q5_K")
    if counts.unknown:
        said.append(f"{', '.join(sorted(counts.unknown))} take the mix's own format")
    if architecture.family not in COMPARED:
        said.append("no published file of this family was compared")
    if any(tensor.matrix for block in architecture.beside for tensor in block.tensors):
        said.append("prediction layers are left out, as most files do")
    if any(block.tower for block in architecture.blocks):
        said.append("towers are a second file in 16 bits, not part of the checkpoint's bytes")
    return "; ".join(said)
