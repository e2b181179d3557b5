"""Reading what weight files hold, from their headers alone: names, shapes, formats and bytes of every tensor.

Nothing is trusted: a header's length, its offsets and its counts are checked against the file's size before they are used.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from advisor_mcp.errors import CannotAnswer, UsageError, shown

LARGEST_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
LARGEST_INDEX_BYTES = 50_000_000
MOST_SHARDS = 2_000
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16,
    "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
PACKED = ("U8", "I32", "I8", "U32")  # formats that quantisers pack several values into


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file."""

    shape: tuple[int, ...]
    format: str
    bytes: int

    @property
    def elements(self) -> int:
        """Values as the file counts them; a packed format holds several weights in one."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint's files, and the metadata that came with them."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Bytes of all tensors, headers aside."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def elements_by_format(self) -> dict[str, int]:
        """Elements per number format, most first."""
        found: Counter[str] = Counter()
        for tensor in self.tensors.values():
            found[tensor.format] += tensor.elements
        return dict(found.most_common())

    @property
    def packed(self) -> bool:
        """Whether some tensors hold several weights in one element, so that elements are not parameters."""
        return any(tensor.format in PACKED and len(tensor.shape) > 1 for tensor in self.tensors.values())


def read_safetensors(path: Path) -> Checkpoint:
    """The tensors of one .safetensors file; raises `UsageError` for a header that lies or a file that ends early."""
    name = shown(path.name, 120)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise UsageError(f"{name} has {size} bytes and is no safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > min(LARGEST_HEADER_BYTES, size - 8):
            raise UsageError(
                f"{name} claims a header of {length:,} bytes in a file of {size:,}; it is damaged or no safetensors file"
            )
        header = _header(file.read(length), name)
    return parse_safetensors(header, size - 8 - length, name)


def _header(text: bytes, name: str) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except RecursionError:
        raise UsageError(f"the header of {name} is nested too deeply") from None
    except ValueError:
        raise UsageError(f"the header of {name} is not JSON; it is damaged or no safetensors file") from None
    if not isinstance(header, dict):
        raise UsageError(f"the header of {name} is not an object; it is damaged or no safetensors file")
    return header


def parse_safetensors(header: Mapping[str, Any], data_bytes: int | None, name: str) -> Checkpoint:
    """The tensors that a safetensors header describes; `data_bytes` (where known) must hold them all."""
    tensors = {key: _stored(key, entry, name) for key, entry in header.items() if key != "__metadata__"}
    end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
    if data_bytes is not None and end > data_bytes:
        raise UsageError(
            f"{name} ends early: its header describes {end:,} bytes of tensors, the file holds {data_bytes:,}"
        )
    metadata = header.get("__metadata__")
    return Checkpoint(tensors, metadata if isinstance(metadata, dict) else {})


def _stored(key: str, entry: Any, name: str) -> Stored:
    where = f"the tensor {shown(key)} of {name}"
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise UsageError(f"{where} has no dtype, shape and offsets; the file is damaged")
    shape, offsets, form = entry["shape"], entry["data_offsets"], entry["dtype"]
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in (*_list(shape), *_list(offsets)))
    if not whole or len(_list(offsets)) != 2 or not isinstance(shape, list):
        raise UsageError(f"{where} has a shape or offsets that are not whole numbers; the file is damaged")
    if not isinstance(form, str) or form not in BITS:
        raise CannotAnswer(
            f"{where} has the format {shown(form)}, which is not known", needs=[f"the width of {shown(form)}"]
        )
    taken = math.prod(shape) * BITS[form] // 8
    if offsets[1] - offsets[0] != taken:
        raise UsageError(
            f"{where} should take {taken:,} bytes and takes {offsets[1] - offsets[0]:,}; the file is damaged"
        )
    return Stored(tuple(shape), form, taken)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


def read_folder(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder: its sharded index, else its .safetensors files; None where there are none."""
    index = folder / "model.safetensors.index.json"
    shards = (
        _shards(index) if index.is_file() else [p.name for p in sorted(folder.glob("*.safetensors"))[: MOST_SHARDS + 1]]
    )
    if len(shards) > MOST_SHARDS:
        raise UsageError(f"{shown(folder.name, 120)} names more than {MOST_SHARDS:,} weight files")
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        return None if len(missing) == len(shards) else _incomplete(folder, missing, len(shards))
    return merge(read_safetensors(folder / name) for name in shards) if shards else None


def _incomplete(folder: Path, missing: list[str], shards: int) -> Checkpoint:
    raise CannotAnswer(
        f"{len(missing)} of the {shards} weight files that the index of {shown(folder.name, 120)} names are not there",
        needs=missing[:3],
    )


def _shards(index: Path) -> list[str]:
    if index.stat().st_size > LARGEST_INDEX_BYTES:
        raise UsageError(
            f"{index.name} has {index.stat().st_size:,} bytes; an index has at most {LARGEST_INDEX_BYTES:,}"
        )
    header = _header(index.read_bytes(), shown(index.name))
    names = header.get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise UsageError(f"{index.name} has no weight_map from tensors to files")
    shards = sorted(set(names.values()))
    # a shard stands beside its index: a name with a folder in it is not followed
    if any(os.path.basename(name) != name for name in shards):
        raise UsageError(f"{index.name} names weight files outside its own folder")
    return shards


def merge(parts: Iterable[Checkpoint]) -> Checkpoint:
    """One checkpoint of several files."""
    tensors: dict[str, Stored] = {}
    metadata: dict[str, Any] = {}
    for part in parts:
        tensors.update(part.tensors)
        metadata.update(part.metadata)
    return Checkpoint(tensors, metadata)


GGUF_MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
MOST_TENSORS = 1_000_000
LONGEST_TEXT = 16_000_000
KEPT_ITEMS = 4_096  # longer arrays (tokenizers) are skipped, and their length kept


class _Reader:
    """Little-endian values from a file, each checked against what is left of it."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.left, self.name = file, size, name

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise UsageError(f"the header of {self.name} runs past the end of the file; it is damaged or cut short")
        self.left -= count
        return self.file.read(count)

    def skip(self, count: int) -> None:
        if count > self.left:
            raise UsageError(f"the header of {self.name} runs past the end of the file; it is damaged or cut short")
        self.left -= count
        self.file.seek(count, os.SEEK_CUR)

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        length = self.number("Q")
        if length > LONGEST_TEXT:
            raise UsageError(f"the header of {self.name} claims a text of {length:,} bytes; it is damaged")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY or depth > 3:
            raise UsageError(
                f"the header of {self.name} has a value of an unknown kind ({kind}); it is damaged or too new"
            )
        inner, length = self.number("I"), self.number("Q")
        if inner in _SCALARS and length > KEPT_ITEMS:
            self.skip(length * struct.calcsize(_SCALARS[inner]))
            return Length(length)
        if length > self.left:  # every item takes at least one byte
            raise UsageError(f"the header of {self.name} claims an array of {length:,} values; it is damaged")
        if length > KEPT_ITEMS:
            for _ in range(length):
                self.skip(self.number("Q")) if inner == _STRING else self.value(inner, depth + 1)
            return Length(length)
        return [self.value(inner, depth + 1) for _ in range(length)]


@dataclass(frozen=True, slots=True)
class Length:
    """Stands for an array that was skipped: how many values it has."""

    items: int


def read_gguf(path: Path) -> Checkpoint:
    """The tensors and metadata of a .gguf file, from its header; raises `UsageError` for one that lies or is cut short."""
    name = shown(path.name, 120)
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file, size, name)
        if size < 24 or reader.take(4) != GGUF_MAGIC:
            raise UsageError(f"{name} does not begin as a GGUF file does")
        version, tensors, pairs = reader.number("I"), reader.number("Q"), reader.number("Q")
        if version not in (2, 3):
            raise CannotAnswer(f"{name} is GGUF version {version}; versions 2 and 3 are read")
        if tensors > MOST_TENSORS or pairs > MOST_TENSORS:
            raise UsageError(f"{name} claims {tensors:,} tensors and {pairs:,} metadata values; it is damaged")
        metadata = {reader.text(): reader.value(reader.number("I")) for _ in range(pairs)}
        found = [_gguf_tensor(reader) for _ in range(tensors)]
    end = max((offset + tensor.bytes for _, tensor, offset in found), default=0)
    if end > reader.left:
        raise UsageError(
            f"{name} ends early: its header describes {end:,} bytes of tensors, the file holds {reader.left:,}"
        )
    return Checkpoint({key: tensor for key, tensor, _ in found}, metadata)


def _gguf_tensor(reader: _Reader) -> tuple[str, Stored, int]:
    from advisor_mcp.anatomy.gguf_types import GGUF_TYPES

    name, dimensions = reader.text(), reader.number("I")
    if dimensions > 8:
        raise UsageError(
            f"the tensor {shown(name)} of {reader.name} claims {dimensions} dimensions; the file is damaged"
        )
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    kind, offset = reader.number("I"), reader.number("Q")
    if kind not in GGUF_TYPES:
        raise CannotAnswer(
            f"the tensor {shown(name)} has the GGUF type {kind}, which is not known",
            needs=[f"the block size of GGUF type {kind}"],
        )
    form, values, taken = GGUF_TYPES[kind]
    return name, Stored(shape[::-1], form, math.prod(shape) // values * taken), offset
