"""Secrets that a node is given in files."""

from __future__ import annotations

from pathlib import Path

from marsnet.errors import InputError


def read_secret(path: Path, what: str) -> bytes:
    """A secret from a file, without the white space around it.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"the {what} cannot be read: {error.strerror}", remedy="check the path", file=path) from None
    if not secret:
        raise InputError(f"the {what} is empty", remedy="write one into it: openssl rand -hex 32", file=path)
    return secret
