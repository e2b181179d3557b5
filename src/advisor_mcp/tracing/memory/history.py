"""What a record of device memory says: the peak and what held it, what the allocator held at the end, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from advisor_mcp.tracing.doubts import Doubt

Source: TypeAlias = Literal["allocator snapshot", "memory timeline"]


@dataclass(frozen=True, slots=True)
class Holding:
    """Bytes with one name, such as a place in the code or a category of tensors."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment at which most memory was in use.

    `size` counts what was in use before the record began (`before`) and what was added since (`traced`, the largest
    prefix sum of +size on alloc and -size on free_completed). `reserved` is what the allocator held then.
    """

    size: int
    traced: int
    before: int
    reserved: int | None
    after_ms: float | None
    event: int
    by_site: tuple[Holding, ...]
    by_category: tuple[Holding, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What the allocator held when the snapshot was taken, in bytes.

    `reserved` >= `active` >= `allocated` >= `requested`. `split_free` is free memory in segments that are partly in use:
    it cannot be given back (PyTorch's inactive_split_bytes; pages of expandable segments can). `releasable` is free memory
    that empty_cache() gives back. `largest_free` is the largest free block.
    """

    segments: int
    expandable_segments: int
    reserved: int
    active: int
    allocated: int
    requested: int
    blocks: int
    split_free: int
    releasable: int
    largest_free: int
    private_pools: int

    @property
    def free(self) -> int:
        """Bytes that are held and not in use."""
        return self.reserved - self.active

    @property
    def fragmentation(self) -> float:
        """1 - active / reserved, the share of held memory that is not in use."""
        return self.free / self.reserved if self.reserved else 0.0

    @property
    def rounding(self) -> int:
        """Bytes of blocks in use beyond what was requested."""
        return self.allocated - self.requested


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """A request that the allocator had to refuse; bytes. `free_on_device` is what CUDA reported free at that moment."""

    size: int
    free_on_device: int
    active: int
    reserved: int | None
    site: str
    at_end: bool

    @property
    def held_free(self) -> int | None:
        """Bytes that the allocator held and nobody used when it refused."""
        return None if self.reserved is None else max(0, self.reserved - self.active)


@dataclass(frozen=True, slots=True)
class Churn:
    """Segments asked from and given back to CUDA while the record ran.

    A retry is a request that CUDA could not serve until cached segments were given back; `flushes` are explicit
    empty_cache() calls that gave something back.
    """

    segment_allocs: int = 0
    segment_frees: int = 0
    freed: int = 0
    retries: int = 0
    retry_site: str | None = None
    flushes: int = 0
    flush_site: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The record of one device. Times are milliseconds since its first event."""

    device: int
    events: int
    span_ms: float | None
    peak: Peak | None
    peak_reserved: int | None
    held: Held | None
    largest_request: int
    unseen_frees: int
    out_of_memory: tuple[OutOfMemory, ...] = ()
    churn: Churn = Churn()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryHistory:
    """A record of device memory. `settings` are the allocator's, as the record states them; None where it does not."""

    source: Source
    devices: tuple[DeviceMemory, ...]
    expandable_segments: bool | None = None
    max_split_bytes: int | None = None

    @property
    def expandable(self) -> bool:
        """Whether expandable segments are in use, by the settings or by the segments themselves."""
        return bool(self.expandable_segments) or any(d.held and d.held.expandable_segments for d in self.devices)

    @property
    def fullest(self) -> DeviceMemory:
        """The device with the highest peak, or with the most reserved where no history was recorded."""
        return max(self.devices, key=lambda d: (d.peak.size if d.peak else 0, d.held.reserved if d.held else 0))
