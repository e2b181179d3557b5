"""GGUF mixes: bytes by hand for small models, and sizes that llama.cpp printed for real ones."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from advisor_mcp import arguments
from advisor_mcp.anatomy.reading import architecture_of
from advisor_mcp.errors import CannotAnswer, UsageError
from advisor_mcp.formulas.gguf_mixes import MIXES
from advisor_mcp.formulas.precision import CODINGS, checkpoint_bytes, requested_format, tensor_bytes, weight_bytes

# 8 layers; q and o 65,536 values, k and v 32,768, gate, up and down 131,072, embedding and head 65,536, 17 norms of 256
SMALL = {
    "model_type": "llama", "hidden_size": 256, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 512,
    "num_hidden_layers": 8, "vocab_size": 256, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
NORMS = 17 * 256 * 4
Q2, Q3, Q4, Q5, Q6 = (size / 256 for size in (84, 110, 144, 176, 210))  # bytes per value of the K formats
Q8, Q4_0, Q5_0, Q5_1 = (size / 32 for size in (34, 18, 22, 24))
EACH = 2 * 65536 + 2 * 32768 + 3 * 131072


def stored(mix: str, **config: Any) -> int:
    architecture = architecture_of(SMALL | config)
    return checkpoint_bytes(architecture, requested_format(architecture, None, mix))


def test_a_plain_format_holds_every_matrix_and_norms_in_32_bits() -> None:
    assert stored("q8_0") == (8 * EACH + 2 * 65536) * Q8 + NORMS
    assert stored("q4_0") == (8 * EACH + 65536) * Q4_0 + 65536 * Q6 + NORMS


def test_q4_k_m_gives_some_layers_of_values_and_downs_six_bits() -> None:
    # the first eighth, the last eighth, and every third between: layers 0, 3, 6 and 7
    four = 8 * (2 * 65536 + 32768 + 2 * 131072) + 4 * (32768 + 131072) + 65536
    assert stored("q4_k_m") == four * Q4 + (4 * (32768 + 131072) + 65536) * Q6 + NORMS


def test_q4_k_s_gives_four_layers_of_values_and_the_first_eighth_of_downs_five_bits() -> None:
    five = 4 * 32768 + 131072
    assert stored("q4_k_s") == (8 * EACH - five + 65536) * Q4 + five * Q5 + 65536 * Q6 + NORMS


def test_q3_k_m_mixes_three_formats_by_what_a_tensor_does() -> None:
    five, four = 2 * 32768, 6 * 32768 + 8 * (65536 + 131072)  # 8 // 16 layers of downs: none
    three = 8 * (65536 + 32768 + 2 * 131072) + 65536
    assert stored("q3_k_m") == five * Q5 + four * Q4 + three * Q3 + 65536 * Q6 + NORMS


def test_values_get_more_bits_where_four_query_heads_share_a_kv_head() -> None:
    # 4 heads of 64 over 1: k and v have 16,384 values
    each = 2 * 65536 + 2 * 16384 + 3 * 131072
    three = 8 * (65536 + 131072)  # o and down
    rest = 8 * each - three - 8 * 16384 + 65536
    grouped = rest * Q2 + three * Q3 + 8 * 16384 * Q4 + 65536 * Q6 + NORMS
    assert stored("q2_k", num_attention_heads=4, num_key_value_heads=1) == grouped


def test_a_tied_embedding_gets_the_format_of_the_head() -> None:
    assert stored("q4_k_s", tie_word_embeddings=True) == stored("q4_k_s") - 65536 * Q4


def test_rows_that_do_not_fill_a_block_fall_back_to_blocks_of_32() -> None:
    # hidden 160: q, k, v, gate and up have rows of 160; o and down have rows of 256 and 512
    config = {"hidden_size": 160, "num_attention_heads": 2, "head_dim": 128}
    layers = range(8)
    more = [layer in (0, 3, 6, 7) for layer in layers]
    q, kv, o, feed, table = 160 * 256, 160 * 128, 160 * 256, 160 * 512, 160 * 256
    total = sum(
        q * Q5_0 + kv * Q5_0 + kv * (Q8 if six else Q5_0) + o * Q4 + 2 * feed * Q5_0 + feed * (Q6 if six else Q4)
        for six in more
    )
    assert stored("q4_k_m", **config) == total + table * Q5_0 + table * Q8 + 17 * 160 * 4


def test_a_format_that_has_no_fallback_is_refused_for_rows_it_cannot_hold() -> None:
    with pytest.raises(CannotAnswer, match="output has rows of 144 values, which Q8_0 cannot hold"):
        stored("q4_0", hidden_size=144, head_dim=128)


def test_eight_experts_get_better_attention_and_a_router_in_32_bits() -> None:
    config = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    experts, router = 8 * 131072, 8 * 256
    more = 4 * experts  # downs of layers 0, 3, 6 and 7
    expected = (
        8 * 65536 * Q4 + 8 * 2 * 32768 * Q8 + 8 * 65536 * Q5  # q, then k and v, then o
        + (8 * 3 * experts - more) * Q4 + more * Q6 + 65536 * Q4 + 65536 * Q6 + 8 * router * 4 + NORMS
    )  # fmt: skip
    assert stored("q4_k_m", **config) == expected


def test_mxfp4_is_for_experts_and_everything_else_is_in_eight_bits() -> None:
    config = {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    attention = 8 * (2 * 65536 + 2 * 32768) + 2 * 65536
    experts, routers = 8 * 3 * 4 * 131072, 8 * 4 * 256
    assert stored("mxfp4_moe", **config) == attention * Q8 + experts * 17 / 32 + routers * 4 + NORMS


def test_latent_attention_keeps_its_keys_turned_so_that_their_rows_are_short() -> None:
    config = {
        "model_type": "deepseek_v3", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": None, "kv_lora_rank": 256, "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 256, "first_k_dense_replace": 1, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 256, "n_shared_experts": 1, "topk_method": "noaux_tc",
    }  # fmt: skip
    architecture = architecture_of(config)
    q, kva, o, ffn = 256 * 256, 320 * 256, 256 * 256, 256 * 512
    keys, values = 2 * 64 * 256, 2 * 128 * 256
    norms = 3 * 256 + 256  # two of the layer, the last, and the latent's
    expected = (q + kva + o + 3 * ffn + values + 2 * 65536) * Q8 + keys * Q8 + norms * 4
    assert checkpoint_bytes(architecture, requested_format(architecture, None, "q8_0")) == expected
    # a single layer is in the last eighth: its downs get six bits
    four = q + kva + o + 2 * ffn + values + 65536
    mixed = four * Q4 + keys * Q5_0 + (ffn + 65536) * Q6 + norms * 4
    assert checkpoint_bytes(architecture, requested_format(architecture, None, "q4_k_m")) == mixed


def llama(**dimensions: int) -> dict[str, Any]:
    names = {
        "h": "hidden_size",
        "heads": "num_attention_heads",
        "kv": "num_key_value_heads",
        "ffn": "intermediate_size",
    }
    more = {"layers": "num_hidden_layers", "vocab": "vocab_size"}
    return SMALL | {(names | more)[name]: value for name, value in dimensions.items()}


LLAMA_3_8B = llama(h=4096, heads=32, kv=8, ffn=14336, layers=32, vocab=128256)
LLAMA_3_70B = llama(h=8192, heads=64, kv=8, ffn=28672, layers=80, vocab=128256)
PHI_3_AS_LLAMA = llama(h=3072, heads=32, kv=32, ffn=8192, layers=32, vocab=32064)
QWEN2_7B = llama(h=3584, heads=28, kv=4, ffn=18944, layers=28, vocab=152128) | {"model_type": "qwen2"}
GEMMA_3_270M = {
    "model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "head_dim": 256,
    "num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262144, "sliding_window": 512,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
}  # fmt: skip
GPT_OSS_20B = {
    "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "num_experts_per_tok": 4, "num_hidden_layers": 24,
    "num_local_experts": 32,
}  # fmt: skip


@pytest.mark.parametrize(("config", "mix", "printed_mib"), [
    # the "quant size" that llama-quantize printed
    (LLAMA_3_8B, "q4_k_m", 4685.30), (QWEN2_7B, "q4_k_m", 4460.75), (QWEN2_7B, "q8_0", 7718.14),
    (QWEN2_7B | {"vocab_size": 152064}, "q4_k_m", 4460.45), (PHI_3_AS_LLAMA, "q4_k_m", 2210.78),
    (GEMMA_3_270M, "q6_k", 263.64), (GPT_OSS_20B, "mxfp4_moe", 11536.18),
])  # fmt: skip
def test_a_mix_is_as_large_as_llama_quantize_says(config: dict[str, Any], mix: str, printed_mib: float) -> None:
    architecture = architecture_of(config)
    size = checkpoint_bytes(architecture, requested_format(architecture, None, mix)) / 2**20
    assert round(size, 2) == pytest.approx(printed_mib, abs=0.011)


@pytest.mark.parametrize(("mix", "file_gib"), [
    ("iq1_s", 14.29), ("iq1_m", 15.60), ("iq2_xxs", 17.79), ("iq2_xs", 19.69), ("iq2_s", 20.71), ("iq2_m", 22.46),
    ("q2_k_s", 22.79), ("q2_k", 24.56), ("iq3_xxs", 25.58), ("iq3_xs", 27.29), ("iq3_s", 28.79), ("iq3_m", 29.74),
    ("q3_k_s", 28.79), ("q3_k_m", 31.91), ("q3_k_l", 34.59), ("iq4_xs", 35.30), ("iq4_nl", 37.30), ("q4_k_s", 37.58),
    ("q4_k_m", 39.60), ("q5_k_s", 45.32), ("q5_k_m", 46.52), ("q6_k", 53.91), ("q8_0", 69.83),
])  # fmt: skip
def test_a_file_of_llama_3_70b_is_the_mix_and_a_header_of_its_vocabulary(mix: str, file_gib: float) -> None:
    architecture = architecture_of(LLAMA_3_70B)
    size = checkpoint_bytes(architecture, requested_format(architecture, None, mix))
    # the published sizes of files are rounded to 0.01 GiB, and hold some 8 MB of vocabulary and merges
    assert -0.005 <= file_gib - (size + 7.5e6) / 2**30 <= 0.012


def test_tensors_of_a_mix_add_up_to_the_file() -> None:
    architecture = architecture_of(SMALL)
    fmt, sizes = requested_format(architecture, None, "q4_k_m"), architecture.bound()
    parts = [block.repeat * tensor_bytes(tensor, sizes, fmt) for block, tensor in architecture.tensors()]
    assert sum(parts) == stored("q4_k_m") == weight_bytes(architecture, sizes, fmt)


def test_what_is_assumed_of_a_file_is_said() -> None:
    architecture = architecture_of(SMALL)
    assert requested_format(architecture, None, "q4_k_m").note == ""
    assert requested_format(architecture, None, "q4_0").note == (
        "made with an importance matrix, the first eighth of ffn_down would be Q4_1"
    )


def test_an_unknown_mix_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown quantization 'q4_k_x'; did you mean 'q4_k_"):
        requested_format(architecture_of(SMALL), None, "q4_k_x")


def test_the_argument_takes_exactly_the_formats_that_are_described() -> None:
    assert set(arguments.FORMATS) == {"none", *CODINGS}
    assert set(arguments.GGUF_TYPES) == set(MIXES)
    adapter = TypeAdapter[str](arguments.Quantization)
    assert adapter.validate_python("Q4_K_M") == "q4_k_m"
    with pytest.raises(ValidationError, match="not 'q4_k_x'; did you mean 'q4_k_"):
        adapter.validate_python("q4_k_x")
