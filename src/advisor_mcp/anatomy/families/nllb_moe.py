"""NLLB-MoE: NLLB's encoder and decoder with two of many experts per token in every few layers."""

from __future__ import annotations

from advisor_mcp.anatomy.classics import Layer, Matrices, Projected, used
from advisor_mcp.anatomy.config import Config
from advisor_mcp.anatomy.encoders import (
    BOTH_WAYS,
    SAME_LENGTH,
    Cross,
    CrossLayer,
    Vocabulary,
    end_of_encoder,
    head_block,
    task,
)
from advisor_mcp.anatomy.families.bart import DERIVED, KINDS, NAMES, Kind, Tables, stack_axes
from advisor_mcp.anatomy.families.t5_kin import PlainExperts
from advisor_mcp.anatomy.inventory import Architecture, Axis, Block, Span
from advisor_mcp.anatomy.parts import Draft, Feed, assemble, by_kind

MODEL_TYPES = ("nllb-moe",)
HEAD = "ForConditionalGeneration"
KIND: Kind = KINDS["m2m_100"]


def describe(c: Config) -> Architecture:
    """A configuration of transformers' NllbMoeConfig; the router takes two experts for every token."""
    which = task(c, (HEAD, "Model"), HEAD)
    root = "" if which == "Model" else "model."
    tied = c.flag("tie_word_embeddings", default=True)
    experts = c.number("num_experts", default=128, of="NllbMoeConfig")
    sizes = stack_axes(c, KIND, True) | {"expert": experts, "choices": experts, "topk": min(2, experts)}
    sizes |= {"moe_ffn": sizes["ffn"], "moe_ffn.encoder": sizes["ffn.encoder"]}
    bias, tables = c.flag("router_bias"), Tables(root, True, tied)
    reads = _kinds(c, c.layers("num_hidden_layers", "encoder_layers"), "encoder")
    writes = _kinds(c, c.layers("decoder_layers"), "decoder")
    head = ((Vocabulary(tables.tied_to, tied, "lm_head.weight"),),) if which == HEAD else ()
    blocks: list[Block] = [
        tables.block(KIND),
        *by_kind(reads, lambda b, kind: _read(b, kind.endswith("experts"), bias), f"{root}encoder.layers.{{layer}}."),
        end_of_encoder(f"{root}encoder.layer_norm"),
        *by_kind(writes, lambda b, kind: _write(b, kind.endswith("experts"), bias), f"{root}decoder.layers.{{layer}}."),
        head_block(head, f"{root}decoder.layer_norm"),
    ]
    c.notes.append(SAME_LENGTH)
    return assemble(c, "nllb-moe", blocks, sizes, used(sizes, DERIVED), tied, [BOTH_WAYS, Span()])


def _kinds(c: Config, layers: int, stack: str) -> list[str]:
    """Experts in every STEP-th layer; a step of 0 means none."""
    step = c.number(f"{stack}_sparse_step", default=4, of="NllbMoeConfig", least=0)
    return [f"{stack}-experts" if step and (layer + 1) % step == 0 else stack for layer in range(layers)]


def _feed(experts: bool, bias: bool, suffix: str) -> Feed:
    axis: Axis = f"moe_ffn{suffix}" if experts else f"ffn{suffix}"
    names = ("fc1", "fc2")
    return PlainExperts("ffn.", names, axis, True, bias) if experts else Matrices("ffn.", names, axis=axis)


def _read(b: Draft, experts: bool, bias: bool) -> None:
    attention = Projected(names=NAMES, axes=("q.encoder", "qh.encoder", "hd.encoder"))
    norms = ("self_attn_layer_norm", "ff_layer_norm")
    Layer(attention, _feed(experts, bias, ".encoder"), norms).write(b, BOTH_WAYS)


def _write(b: Draft, experts: bool, bias: bool) -> None:
    norms = ("self_attn_layer_norm", "cross_attention_layer_norm", "ff_layer_norm")
    cross = Cross("cross_attention.", NAMES, bias=True)
    CrossLayer(Projected(names=NAMES), cross, _feed(experts, bias, ""), norms).write(b)
