"""A digest of a whole file that costs little more than reading it."""

import hashlib
import mmap
from typing import Any

import torch

LANES, ROWS = 2039, 64
BLOCK = LANES * ROWS * 8
"""How many bytes are added up at once: about 1 MB, which the cache of a core holds."""


class Digest:
    """The digest of bytes that come piece by piece; how they are cut into pieces makes no difference.

    A block is a table of 64-bit words, whose columns are added up modulo 2**64, at the speed of memory; the sums are hashed by BLAKE2b.
    A hash of all bytes, or a CRC, would take longer than reading them. A column never loses a change of one of its words, so whatever
    happens to 16 kB in a row, one flipped bit or a page of zeros, is found for certain. The number of columns is a prime, so that pages
    of a disk that trade places come to other columns. It is no signature: it finds damage, not somebody who means to deceive.

    >>> digest = Digest()
    >>> digest.update(b"some bytes")
    >>> digest.value().hex()
    '1e30b5c96493a62d811bc39c00e07bd3'
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._part = mmap.mmap(-1, BLOCK, access=mmap.ACCESS_COPY)  # of which only what is used takes memory
        self._room = memoryview(self._part)
        self._filled = 0
        self._length = 0
        self._sums = bytearray(LANES * 8)
        self._lanes = torch.frombuffer(self._sums, dtype=torch.int64)

    def update(self, data: Any) -> None:
        """Takes the next bytes; whole blocks of a buffer that may be written to are not copied."""
        rest = memoryview(data).cast("B")
        self._length += len(rest)
        while rest:
            taken = min(BLOCK - self._filled, len(rest))
            if taken == BLOCK and not rest.readonly:
                self._fold(rest[:BLOCK])
            else:
                self._room[self._filled : self._filled + taken] = rest[:taken]
                self._filled += taken
            if self._filled == BLOCK:
                self._fold(self._room)
                self._filled = 0
            rest = rest[taken:]

    def _fold(self, block: Any) -> None:
        words = torch.frombuffer(block, dtype=torch.int64)
        torch.sum(words.view(ROWS, LANES), 0, out=self._lanes)
        self._hash.update(self._sums)

    def value(self) -> bytes:
        """The digest of all that came so far, 16 bytes."""
        whole = self._hash.copy()
        whole.update(self._room[: self._filled])  # less than a block is hashed as it is
        whole.update(self._length.to_bytes(8, "little"))
        return whole.digest()
