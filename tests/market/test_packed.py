"""What unpacks a file, on data that pack badly: then pieces of the input give nothing by themselves."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sor.errors import StreamError
from sor.market.packed import Unpacked
from sor.stream.files import open_feed

zstandard = pytest.importorskip("zstandard")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
@pytest.mark.parametrize("size", [10_000, 2_000_000])
def test_what_packs_badly_is_unpacked_whole(tmp_path: Path, pack: Callable[[bytes], bytes], size: int) -> None:
    content = np.random.default_rng(size).integers(0, 64, size, np.uint8).tobytes()  # three quarters of it stay
    path = tmp_path / "a.file"
    path.write_bytes(pack(content))
    file = Unpacked(str(path))
    parts = []
    while part := file.read(2**20):
        parts.append(part)
    file.close()
    assert b"".join(parts) == content


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_what_is_damaged_says_so_each_time(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Some unpackers, asked once more, fail in another way: whoever looks at a first line and then reads asks twice."""
    packed = bytearray(pack(b"much of the same, " * 1_000))
    packed[8:] = bytes(byte ^ 255 for byte in packed[8:])
    path = tmp_path / "feed.csv"
    path.write_bytes(packed)
    file = Unpacked(str(path))
    told = []
    for _ in range(3):
        with pytest.raises(OSError, match="damaged") as caught:
            list(iter(lambda: file.read(2**20), b""))
        told.append(str(caught.value))
    file.close()
    assert told == told[:1] * 3
    with pytest.raises(StreamError, match="damaged"):
        open_feed(str(path))
