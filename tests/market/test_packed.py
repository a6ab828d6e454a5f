"""What unpacks a file, on data that pack badly: then pieces of the input give nothing by themselves."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sor.market.packed import Unpacked

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
