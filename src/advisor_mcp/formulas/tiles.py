"""What a matrix product loses to tiles and waves, and to dimensions that tensor cores cannot load whole.

A GPU cuts the result into tiles, one at a time on each streaming multiprocessor (SM): what sticks out of the last tile of
a row or column is computed for nothing, and the last wave of tiles leaves SMs idle (stas00/ml-engineering@008c4f7
training/performance/README.md, after arXiv:2401.14489). The tiles are among those of cublasLtMatmulTile_t. A library
chooses one by itself, and may split k or use persistent kernels, which is not modelled.

What has to be whole are the leading dimensions of row-major operands: k of the first, n of the second (k where it is stored
transposed) and n of the result. m is none of them. AMD's libraries take their kernels from Tensile, whose generator makes
faster ones for sizes in multiples of 8 elements of 16 bits and 4 of 32 (ROCm/hipBLASLt@01c50c1bdae1
tensilelite/Tensile/Common.py, Assert*ElementMultiple), which is the same 16 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

TILES = ((256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64))
VECTOR_BITS = 128  # most tensor-core kernels load 128 bits at a time (NVIDIA/cutlass#75)
TENSILE = "repo:rocm/hipblaslt@01c50c1bdae1:tensilelite/tensile/common.py"
SOURCES = ("repo:stas00/ml-engineering@008c4f7407eb:training/performance/readme.md", "arxiv:2401.14489",
           "doc:nvmath-matmultile", "thread:nvidia/cutlass#75")  # fmt: skip
BITS: Mapping[str, int] = {"fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4}


@dataclass(frozen=True, slots=True)
class Tiling:
    """A product cut into tiles of `rows` by `columns`: how many there are, in how many waves, and what of it is useful."""

    rows: int
    columns: int
    tiles: int
    waves: int
    tile_share: float
    wave_share: float

    @property
    def share(self) -> float:
        """Useful results over those that the waves had room for."""
        return self.tile_share * self.wave_share


def tiling(m: int, n: int, batch: int, sm_count: int, tile: tuple[int, int]) -> Tiling:
    """`batch` results of (m, n) cut into tiles of that size, one at a time on each of `sm_count` SMs."""
    rows, columns = tile
    tiles = batch * -(-m // rows) * -(-n // columns)
    waves = -(-tiles // sm_count)
    useful = Fraction(batch * m * n, tiles * rows * columns)
    return Tiling(rows, columns, tiles, waves, float(useful), float(Fraction(tiles, waves * sm_count)))


def tilings(m: int, n: int, batch: int, sm_count: int) -> list[Tiling]:
    """Every tile of `TILES`, the largest first."""
    return [tiling(m, n, batch, sm_count, tile) for tile in TILES]


def best(found: list[Tiling]) -> Tiling:
    """The tiling that wastes least; of equals the largest tile, which reads its operands least often."""
    return max(found, key=lambda each: (each.share, each.rows * each.columns))


def unaligned(dtype: str, dimensions: Mapping[str, int]) -> dict[str, int]:
    """The dimensions that are not a multiple of 16 bytes of that dtype, with the multiple of elements each should be."""
    elements = VECTOR_BITS // BITS[dtype]
    return {name: elements for name, size in dimensions.items() if size % elements}


def harm_of_unaligned(vendor: str, dtype: str) -> str | None:
    """What becomes of a product whose leading dimensions are not whole; None where no source says that it matters."""
    if vendor == "AMD":
        return "kernels that Tensile makes for whole multiples are passed over for slower ones"
    if vendor != "NVIDIA" or dtype == "fp32":
        return None
    if dtype == "fp8":
        return "torch refuses the product"
    return "kernels with narrow loads are taken (*_align1, *_align2), below this roof"
