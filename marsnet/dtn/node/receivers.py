"""Applications of a node's own that do more with a bundle than take it: they answer it, or put a file together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from marsnet.dtn.node.config import FileConfig, ReceiverConfig
from marsnet.dtn.node.traffic import is_intact, opened


class Receivers:
    """The receivers of one node, by service number.

    Files appear below a folder, one for each flow, under their own names once they are complete and what they were.
    """

    def __init__(self, receivers: Iterable[ReceiverConfig], folder: Path | None) -> None:
        """Start them.

        Args:
            receivers: of the node's configuration.
            folder: where files go; None when there is no place, and files are only checked for what arrived.
        """
        self._receivers = {receiver.service: receiver for receiver in receivers}
        self._folder = folder

    def at(self, service: int) -> ReceiverConfig | None:
        """The application at a service number."""
        return self._receivers.get(service)

    def deliver(self, service: int, data: bytes) -> dict[str, object]:
        """Hand a payload to the application.

        Doing it twice does the same as once, so a node may repeat it after a crash.

        Returns:
            What the ledger is to say: `intact`, and with a file's last part `file`: its name when it is what it was.
        """
        receiver = self._receivers.get(service)
        said: dict[str, object] = {"intact": is_intact(data)}
        if receiver is None or receiver.file is None or self._folder is None or not said["intact"]:
            return said
        done = _put(self._folder / receiver.flow, receiver.file, data)
        if done is not None:
            said |= {"file": receiver.file.name} if done else {"intact": False}
        return said


def _put(folder: Path, file: FileConfig, data: bytes) -> bool | None:
    """Write a part in its place; returns whether the file is right once it is complete, None before."""
    folder.mkdir(parents=True, exist_ok=True)
    part, arrived = folder / f".{file.name}.part", folder / f".{file.name}.parts"
    index, content = opened(data)
    if (folder / file.name).exists():
        return None
    with part.open("r+b" if part.exists() else "w+b") as out:
        out.seek(index * file.part)
        out.write(content)
    with arrived.open("a", encoding="ascii") as log:
        log.write(f"{index}\n")
    if len(set(arrived.read_text(encoding="ascii").split())) * file.part < file.size:
        return None
    with part.open("rb") as whole:
        right = hashlib.file_digest(whole, "sha256").hexdigest() == file.sha256
    if right:
        part.replace(folder / file.name)
        arrived.unlink()
    return right
