"""Files that lie elsewhere: addresses such as ``s3://bucket/day.parquet``, by fsspec and what it needs for each."""

from __future__ import annotations

import hashlib
import importlib
import os
from typing import Any

from sor.errors import InputError

CHUNK = 2**20


def is_remote(path: str) -> bool:
    """Whether a path is an address."""
    return "://" in path


def opened(path: str) -> Any:
    """The bytes of a file elsewhere, to be read.

    Raises
    ------
    InputError
        It cannot be opened, or a package is missing that does.
    """
    return _there(path, lambda system, name: system.open(name, "rb"))


def matching(path: str) -> list[str]:
    """Addresses that fit one with an asterisk, by name, as no shell finds them; another path is the only one itself.

    Raises
    ------
    InputError
        None fits.
    """
    if not is_remote(path) or "*" not in path:
        return [path]
    found = _there(path, lambda system, name: sorted(map(system.unstrip_protocol, system.glob(name))))
    if not found:
        raise InputError(f"cannot read {path}: no file there has such a name")
    return list(found)


def put(local: str, path: str) -> None:
    """Copy a local file there; a store shows it once it is whole.

    Raises
    ------
    InputError
        It cannot be written.
    """

    def copy(system: Any, name: str) -> None:
        system.makedirs(name.rpartition("/")[0], exist_ok=True)
        system.put_file(local, name)

    _there(path, copy, "write")


def inside(folder: str, name: str) -> str:
    """The path of a file in a folder, here or elsewhere."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)


def exists(path: str) -> bool:
    """Whether there is a file, here or elsewhere."""
    return bool(_there(path, lambda system, name: system.exists(name))) if is_remote(path) else os.path.exists(path)


def names(folder: str) -> set[str]:
    """Of the files in a folder, here or elsewhere, asked for once: elsewhere each question takes its time."""

    def listed(system: Any, name: str) -> list[str]:
        return list(system.ls(name, detail=False)) if system.exists(name) else []

    found = _there(folder, listed) if is_remote(folder) else os.listdir(folder)
    return {os.path.basename(path) for path in found}


def fingerprint(path: str) -> dict[str, Any]:
    """What tells a file's content from another: SHA-256, or elsewhere what its store says of it.

    Raises
    ------
    InputError
        It cannot be read.
    """
    if is_remote(path):
        told = _there(path, lambda system, name: (system.size(name), str(system.checksum(name))))
        return {"path": path, "bytes": told[0], "checksum": told[1]}
    found, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            while part := file.read(CHUNK):
                found.update(part)
                size += len(part)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return {"path": path, "bytes": size, "sha256": found.hexdigest()}


def _there(path: str, do: Any, what: str = "read") -> Any:
    """Whatever package it is that fails: each has errors of its own."""
    try:
        package = importlib.import_module("fsspec")
    except ImportError:
        raise InputError(f"{path} is an address, which fsspec reads: pip install 'sor[dask]'") from None
    try:
        return do(*package.core.url_to_fs(path))
    except Exception as error:  # noqa: BLE001
        told = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"cannot {what} {path}: {told}") from None
