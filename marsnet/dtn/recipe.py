"""Octets that follow from a few numbers: payloads of traffic are made when they are looked at, and need not be kept."""

from __future__ import annotations

import hashlib
from functools import lru_cache

DIGEST = 16
"""Octets of the digest that a payload begins with."""
_PERIOD = 1024
"""After so many octets a payload repeats itself."""
_LONG = 64
"""So many repetitions are one piece, where there are as many."""


class Recipe:
    """The payload of a flow's bundle with a running number: a digest and the octets that it is made over.

    Attributes:
        flow: name of the flow.
        index: running number.
        size: octets.
    """

    __slots__ = ("_digest", "flow", "index", "size")

    def __init__(self, flow: str, index: int, size: int) -> None:
        self.flow, self.index, self.size = flow, index, size
        self._digest: bytes | None = None

    def __bytes__(self) -> bytes:
        return self.octets()

    def octets(self, begin: int = 0, end: int | None = None) -> bytes:
        """The octets from `begin` to before `end`."""
        return b"".join(self.pieces(begin, self.size if end is None else end))

    def pieces(self, begin: int, end: int) -> list[bytes]:
        """The same in pieces, so that nothing large need be made only to be joined to something else."""
        if self.size <= DIGEST:
            return [_pattern(self.flow, self.index, self.size)[begin:end]]
        head: list[bytes] = []
        if begin < DIGEST:
            if self._digest is None:
                digest = hashlib.blake2b(digest_size=DIGEST)
                for piece in self._body(0, self.size - DIGEST):
                    digest.update(piece)
                self._digest = digest.digest()
            head = [self._digest[begin:end]]
        return head + self._body(max(0, begin - DIGEST), max(0, end - DIGEST))

    def _body(self, begin: int, end: int) -> list[bytes]:
        block = _pattern(self.flow, self.index, min(self.size - DIGEST, _PERIOD))
        skip = begin % len(block)
        times, rest = divmod(skip + end - begin, len(block))
        if not times:
            return [block[skip:rest]]
        long, short = divmod(times - 1, _LONG)
        return [block[skip:], *([block * _LONG] * long if long else ()), *[block] * short, block[:rest]]


@lru_cache(32)
def _pattern(flow: str, index: int, size: int) -> bytes:
    return hashlib.shake_128(f"{flow}/{index}".encode()).digest(size)


class Rope:
    """Octets of which a middle part is not kept but made by a recipe. It has the length and the slices of `bytes`."""

    __slots__ = ("_length", "begin", "end", "head", "recipe", "tail")

    def __init__(self, head: bytes, recipe: Recipe, begin: int, end: int, tail: bytes) -> None:
        """Join what is kept and what is made.

        Args:
            head: octets before the made part.
            recipe: what makes it.
            begin: its first octet in what the recipe makes.
            end: one past its last.
            tail: octets after it.
        """
        self.head, self.recipe, self.begin, self.end, self.tail = head, recipe, begin, end, tail
        self._length = len(head) + end - begin + len(tail)

    def __len__(self) -> int:
        return self._length

    def made(self) -> bytes:
        """The octets that are not kept."""
        return self.recipe.octets(self.begin, self.end)

    def __bytes__(self) -> bytes:
        return b"".join([self.head, *self.recipe.pieces(self.begin, self.end), self.tail])

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self._length)
        first = len(self.head)
        last = first + self.end - self.begin
        made = b""
        if begin < last and end > first:
            made = self.recipe.octets(self.begin + max(0, begin - first), self.begin + min(end, last) - first)
        return b"".join((self.head[begin:end], made, self.tail[max(0, begin - last) : max(0, end - last)]))


class Recipes:
    """What the payloads of a world's bundles are made by.

    A recipe is believed only where it makes the octets that are there: what was changed, encrypted or made otherwise
    stays octets.
    """

    _WORTH = 4096
    """Octets of a payload below which it is kept as it is."""

    def __init__(self) -> None:
        self._known: dict[bytes, Recipe] = {}

    def note(self, bundle: bytes, recipe: Recipe) -> None:
        """A bundle was made with a payload of this recipe; `bundle` is its `BundleId.key`."""
        if recipe.size >= self._WORTH:
            self._known[bundle] = recipe

    def rope(self, bundle: bytes, octets: bytes, begin: int, end: int, offset: int) -> bytes | Rope:
        """The octets without those that a recipe makes; as they are where none makes them.

        Args:
            bundle: key of the bundle that they are of, or are a fragment of.
            octets: an encoded bundle.
            begin: where its payload begins in them.
            end: where its payload ends.
            offset: of its payload in that of the whole bundle.
        """
        recipe = self._known.get(bundle)
        if recipe is None or end - begin < self._WORTH:
            return octets
        last = offset + end - begin
        if last > recipe.size:
            return octets
        at = begin
        for piece in recipe.pieces(offset, last):
            if not octets.startswith(piece, at):
                return octets
            at += len(piece)
        return Rope(octets[:begin], recipe, offset, last, octets[end:])
