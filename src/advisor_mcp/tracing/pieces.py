"""Reading a file in pieces where it may be a compressed stream that breaks off."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import BinaryIO


class Pieces:
    """A file that ends where it can no longer be decompressed; `broken` says that it ended so."""

    def __init__(self, file: BinaryIO) -> None:
        # read() would lose what it had unpacked before the stream broke off
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)
        self.broken = False

    def read(self, size: int) -> bytes:
        """The next piece of at most `size` bytes, empty at the end."""
        try:
            return self._read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            self.broken = True
            return b""
