"""Keys that a node was given while it ran: they hold in place of those of its configuration, also after a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from marsnet.errors import InputError


class Security(Protocol):
    """Whose keys they are."""

    @property
    def keys(self) -> dict[str, bool]:
        """Names, and whether each wraps others."""

    def set_key(self, name: str, material: bytes, *, wraps: bool = False) -> None:
        """Add a key or replace one."""

    def drop_key(self, name: str) -> None:
        """Forget a key."""


class _Entry(BaseModel):
    """A key; without a secret, one of the configuration that was dropped."""

    model_config = ConfigDict(extra="forbid")
    secret: str | None = None
    wraps: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    keys: dict[str, _Entry] = {}


class KeyRing:
    """The keys of a node's security, and the file that remembers changes to them. Only its owner may read the file."""

    def __init__(self, security: Security, path: Path) -> None:
        """Apply what the file remembers.

        Raises:
            InputError: the file is damaged, or a key in it does not fit the rules.
        """
        self._security, self._path = security, path
        self._changes = _File()
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        try:
            self._changes = _File.model_validate_json(text)
        except ValidationError as error:
            raise InputError(
                f"no list of keys: {error.errors()[0]['msg']}",
                remedy="remove the file and give the keys again",
                file=path,
            ) from None
        for name, entry in self._changes.keys.items():
            if entry.secret is not None:
                security.set_key(name, bytes.fromhex(entry.secret), wraps=entry.wraps)
            elif name in security.keys:
                security.drop_key(name)

    @property
    def names(self) -> dict[str, bool]:
        """Names of the keys, and whether each wraps others."""
        return self._security.keys

    def put(self, name: str, material: bytes, *, wraps: bool) -> None:
        """Add a key or replace one.

        Raises:
            InputError: it does not fit what a rule uses it for; nothing changes then.
        """
        self._security.set_key(name, material, wraps=wraps)
        self._changes.keys[name] = _Entry(secret=material.hex(), wraps=wraps)
        self._save()

    def drop(self, name: str) -> None:
        """Forget a key.

        Raises:
            InputError: there is none of the name, or a rule needs it.
        """
        self._security.drop_key(name)
        self._changes.keys[name] = _Entry()
        self._save()

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self._changes.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
