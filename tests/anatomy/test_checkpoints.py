"""Weight files: counted from their headers, and never trusted."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

import advisor_mcp
from advisor_mcp.anatomy.checkpoints import Length, Stored, read_folder, read_gguf, read_safetensors
from advisor_mcp.errors import AdvisorError, CannotAnswer, UsageError

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
    "num_hidden_layers": 1, "vocab_size": 32, "tie_word_embeddings": True,
}  # fmt: skip
LAYER = {
    "self_attn.q_proj": (8, 8), "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8), "mlp.gate_proj": (16, 8),
    "mlp.up_proj": (16, 8), "mlp.down_proj": (8, 16), "input_layernorm": (8,), "post_attention_layernorm": (8,),
}  # fmt: skip
NAMES = {"model.embed_tokens.weight": (32, 8), "model.norm.weight": (8,)} | {
    f"model.layers.0.{n}.weight": s for n, s in LAYER.items()
}
TOTAL = 256 + 8 + 192 + 384 + 16


def safetensors(tensors: dict[str, tuple[int, ...]], form: str = "BF16", width: int = 2) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        size = width
        for n in shape:
            size *= n
        header[name] = {"dtype": form, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * end


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(safetensors(NAMES))
    return tmp_path


def describe(path: Path, **arguments: Any) -> dict[str, Any]:
    return advisor_mcp.call("describe_model", model=str(path), **arguments).data()


def test_a_folder_is_counted_from_its_files_and_agrees_with_its_configuration(folder: Path) -> None:
    found = describe(folder)
    assert found["parameters"]["total"] == TOTAL
    assert found["checkpoint"] == {
        "parameters": TOTAL,
        "basis": "files",
        "tensors": 11,
        "formats": {"BF16": TOTAL},
        "differences": [],
    }
    assert (found["checkpoint_bytes"], found["checkpoint_format"]) == (2 * TOTAL, "stored")
    alone = describe(folder / "model.safetensors")
    assert alone == found | {"model": "model.safetensors", "summary": alone["summary"]}


def test_a_tied_head_that_is_stored_twice_is_a_difference_and_not_a_parameter(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(NAMES | {"lm_head.weight": (32, 8)}))
    found = describe(folder)
    assert found["parameters"]["total"] == TOTAL
    assert found["checkpoint"]["parameters"] == TOTAL + 256
    assert found["checkpoint"]["differences"] == [
        "the files hold 256 parameters more than the configuration describes", "only in the files: lm_head.weight"
    ]  # fmt: skip


def test_a_tensor_of_another_shape_and_a_missing_one_are_named(folder: Path) -> None:
    changed = {name: shape for name, shape in NAMES.items() if name != "model.norm.weight"} | {
        "model.embed_tokens.weight": (33, 8)
    }
    (folder / "model.safetensors").write_bytes(safetensors(changed))
    assert describe(folder)["checkpoint"]["differences"] == [
        "only in the configuration: model.norm.weight", "of another shape in the files: model.embed_tokens.weight"
    ]  # fmt: skip


def test_shards_are_counted_together_and_a_missing_one_is_told(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    names = list(NAMES)
    for part, chosen in (("a", names[:5]), ("b", names[5:])):
        (folder / f"{part}.safetensors").write_bytes(safetensors({name: NAMES[name] for name in chosen}))
    index = {"weight_map": {name: "a.safetensors" if name in names[:5] else "b.safetensors" for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert describe(folder)["checkpoint"]["parameters"] == TOTAL
    (folder / "b.safetensors").unlink()
    with pytest.raises(
        CannotAnswer, match=r"1 of the 2 weight files that the index of .* names are not there"
    ) as caught:
        describe(folder)
    assert caught.value.needs == ["b.safetensors"]
    (folder / "a.safetensors").unlink()
    assert describe(folder)["checkpoint"]["basis"] == "configuration"


def test_an_index_that_points_out_of_its_folder_is_refused(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}', encoding="utf-8")
    with pytest.raises(UsageError, match="names weight files outside its own folder"):
        read_folder(folder)


def test_a_family_that_is_not_described_is_counted_from_its_tensors(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "frobnicator"}), encoding="utf-8")
    found = describe(folder)
    assert found["parameters"] == {"total": TOTAL, "by_component": {}}
    assert "state" not in found
    assert found["warnings"] == [
        "only the weight files could be read, so state and FLOPs are not answered: "
        "the model type 'frobnicator' is not described here yet, and its size is not guessed"
    ]
    with pytest.raises(CannotAnswer, match="'frobnicator' is not described here yet"):
        advisor_mcp.call("estimate_serving_memory", model=str(folder))


def test_packed_formats_hide_the_count_and_the_configuration_gives_it(folder: Path) -> None:
    packed = {name: (shape[0], shape[1] // 2) if len(shape) == 2 else shape for name, shape in NAMES.items()}
    (folder / "model.safetensors").write_bytes(safetensors(packed, "U8", 1))
    found = describe(folder)
    assert found["parameters"]["total"] == TOTAL
    assert "parameters" not in found["checkpoint"]


@pytest.mark.parametrize(("content", "sentence"), [
    (b"", "'bad.safetensors' has 0 bytes and is no safetensors file"),
    (struct.pack("<Q", 100 * 10**9), "'bad.safetensors' claims a header of 100,000,000,000 bytes in a file of 8; it is damaged or no safetensors file"),
    (struct.pack("<Q", 9) + b"not json!", "the header of 'bad.safetensors' is not JSON; it is damaged or no safetensors file"),
    (struct.pack("<Q", 2) + b"[]", "the header of 'bad.safetensors' is not an object; it is damaged or no safetensors file"),
    (safetensors({"a": (4, 4)})[:-1], "'bad.safetensors' ends early: its header describes 32 bytes of tensors, the file holds 31"),
    (struct.pack("<Q", 9) + b'{"a":"b"}', "the tensor 'a' of 'bad.safetensors' has no dtype, shape and offsets; the file is damaged"),
])  # fmt: skip
def test_a_header_that_lies_is_refused_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_safetensors(path)
    assert caught.value.message == sentence


@pytest.mark.parametrize(("entry", "part"), [
    ({"dtype": "BF16", "shape": [2, -1], "data_offsets": [0, 4]}, "shape or offsets that are not whole numbers"),
    ({"dtype": "BF16", "shape": [10**12, 10**12], "data_offsets": [0, 4]}, "should take 2,000,000,000,000,000,000,000,000 bytes and takes 4"),
    ({"dtype": "F5", "shape": [2], "data_offsets": [0, 4]}, "has the format 'F5', which is not known"),
    ({"dtype": "BF16", "shape": [True], "data_offsets": [0, 2]}, "shape or offsets that are not whole numbers"),
    ({"dtype": "BF16", "shape": 7, "data_offsets": [0, 2]}, "shape or offsets that are not whole numbers"),
])  # fmt: skip
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, entry: dict[str, Any], part: str) -> None:
    text = json.dumps({"a": entry}).encode()
    (tmp_path / "bad.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 64)
    with pytest.raises(AdvisorError) as caught:
        read_safetensors(tmp_path / "bad.safetensors")
    assert part in caught.value.message


# ---- GGUF


def text_of(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text_of(key) + struct.pack("<I", kind) + value


def uint(key: str, value: int) -> bytes:
    return pair(key, 4, struct.pack("<I", value))


def gguf(
    pairs: list[bytes],
    tensors: list[tuple[str, tuple[int, ...], int, int]],
    data: int,
    counts: tuple[int, int] | None = None,
) -> bytes:
    number, keys = counts or (len(tensors), len(pairs))
    out = b"GGUF" + struct.pack("<IQQ", 3, number, keys) + b"".join(pairs)
    for name, shape, kind, offset in tensors:
        out += (
            text_of(name)
            + struct.pack("<I", len(shape))
            + b"".join(struct.pack("<Q", n) for n in shape)
            + struct.pack("<IQ", kind, offset)
        )
    return out + b"\0" * data


PAIRS = [
    pair("general.architecture", 8, text_of("llama")), uint("llama.block_count", 1), uint("llama.embedding_length", 32),
    uint("llama.feed_forward_length", 64), uint("llama.attention.head_count", 2), uint("llama.attention.head_count_kv", 1),
    uint("llama.context_length", 128), pair("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text_of("a") + text_of("b")),
]  # fmt: skip


def test_a_gguf_file_is_read_from_its_header_with_block_formats_and_real_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(
        gguf(PAIRS, [("token_embd.weight", (32, 96), 2, 0), ("output_norm.weight", (32,), 0, 1728)], 1728 + 128)
    )
    found = read_gguf(path)
    # Q4_0: 18 bytes for 32 values
    assert found.tensors == {
        "token_embd.weight": Stored((96, 32), "Q4_0", 96 * 18),
        "output_norm.weight": Stored((32,), "F32", 128),
    }
    assert found.metadata["tokenizer.ggml.tokens"] == ["a", "b"]
    described = describe(path)
    assert (described["family"], described["layers"], described["state"]["bytes_per_token"]) == (
        "llama",
        1,
        1 * 2 * 16 * 2,
    )
    assert described["checkpoint"]["formats"] == {"Q4_0": 3072, "F32": 32}


def test_a_long_array_is_skipped_and_its_length_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    scores = pair("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 5000) + b"\0" * 20000)
    path.write_bytes(gguf([*PAIRS[:1], scores], [], 0))
    assert read_gguf(path).metadata["tokenizer.ggml.scores"] == Length(5000)


@pytest.mark.parametrize(("content", "part"), [
    (b"GGUF", "does not begin as a GGUF file does"),
    (b"ABCD" + b"\0" * 40, "does not begin as a GGUF file does"),
    (gguf(PAIRS, [], 0, counts=(2**60, 8)), "it is damaged"),
    (gguf(PAIRS, [], 0, counts=(5, 8)), "runs past the end of the file"),
    (gguf([pair("x", 9, struct.pack("<IQ", 8, 2**50))], [], 0), "claims an array of 1,125,899,906,842,624 values"),
    (gguf([pair("x", 8, struct.pack("<Q", 2**62))], [], 0), "claims a text of 4,611,686,018,427,387,904 bytes"),
    (gguf([pair("x", 77, b"")], [], 0), "a value of an unknown kind (77)"),
    (gguf(PAIRS, [("a", (32, 1000), 0, 0)], 10), "ends early"),
    (gguf(PAIRS, [("a", (32,), 999, 0)], 10), "has the GGUF type 999, which is not known"),
    (gguf([], [("a", (1,) * 9, 0, 0)], 10), "claims 9 dimensions"),
])  # fmt: skip
def test_a_gguf_header_that_lies_is_refused(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(AdvisorError) as caught:
        read_gguf(path)
    assert part in caught.value.message


def test_a_gguf_architecture_that_is_not_translated_is_counted_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(gguf([pair("general.architecture", 8, text_of("other"))], [("a.weight", (32, 2), 1, 0)], 128))
    assert describe(path)["parameters"]["total"] == 64


def test_a_format_that_only_the_files_know_is_not_taken_for_bf16_when_serving(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(PAIRS, [("token_embd.weight", (32, 96), 2, 0)], 1728))
    with pytest.raises(CannotAnswer, match="m stores Q4_0, which its configuration does not declare") as caught:
        advisor_mcp.call("estimate_serving_memory", model=str(path))
    assert caught.value.needs == ["quantization, e.g. q4_k_m"]
    assert advisor_mcp.call("estimate_serving_memory", model=str(path), dtype="bf16").data()["tensor_parallel"] == 1


def test_a_tensor_name_cannot_put_lines_or_colours_into_an_answer(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(NAMES | {"x\n\x1b[31m# obey": (1,)}))
    said = describe(folder)["checkpoint"]["differences"][1]
    assert said == "only in the files: 'x\\\\n\\\\x1b[31m# obey'"


@pytest.mark.parametrize("form", [["F32"], {}, None, 7])
def test_a_format_that_is_no_text_is_refused(tmp_path: Path, form: object) -> None:
    text = json.dumps({"a": {"dtype": form, "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "bad.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * 4)
    with pytest.raises(AdvisorError, match="has the format"):
        read_safetensors(tmp_path / "bad.safetensors")
