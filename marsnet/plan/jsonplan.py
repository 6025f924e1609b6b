"""Contact plans as JSON: this project's own format, version `plan/1`, with nothing rounded."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

from marsnet.errors import InputError
from marsnet.plan.document import VERSION, ContactRecord, HeaderRecord, RangeRecord, checked
from marsnet.plan.stream import PlanHeader, PlanStream, collect
from marsnet.plan.types import Contact, ContactPlan, Range

_SPACE = re.compile(r"[ \t\r\n]*")


def write(stream: PlanStream, out: TextIO) -> None:
    """Write a plan as JSON, one contact or range a line.

    The ranges wait in a temporary file until the last contact is out, so memory does not grow with the plan.
    """
    header = stream.header
    out.write("{\n")
    for key, value in (
        ("marsnet", VERSION),
        ("epoch", header.epoch),
        ("start", header.start),
        ("end", header.end),
        ("nodes", header.nodes),
        ("meta", header.meta),
    ):
        out.write(f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n")
    out.write(' "contacts": [')
    with tempfile.TemporaryFile("w+", encoding="utf-8") as later:
        between_contacts = between_ranges = "\n  "
        for chunk in stream.chunks:
            for contact in chunk.contacts:
                out.write(between_contacts + _contact(contact))
                between_contacts = ",\n  "
            for piece in chunk.ranges:
                later.write(between_ranges + _range(piece))
                between_ranges = ",\n  "
        out.write('\n ],\n "ranges": [')
        later.seek(0)
        shutil.copyfileobj(later, out)
    out.write("\n ]\n}\n")


def _contact(contact: Contact) -> str:
    record: dict[str, Any] = {
        "link": contact.link,
        "source": contact.source,
        "target": contact.target,
        "start": contact.start,
        "end": contact.end,
        "rate": contact.rate,
    }
    if contact.ber:
        record["ber"] = contact.ber
    if contact.loss:
        record["loss"] = contact.loss
    return json.dumps(record, ensure_ascii=False)


def _range(piece: Range) -> str:
    record: dict[str, Any] = {
        "source": piece.source,
        "target": piece.target,
        "start": piece.start,
        "end": piece.end,
        "owlt": piece.owlt,
    }
    if piece.slope:
        record["slope"] = piece.slope
    return json.dumps(record, ensure_ascii=False)


def read(text: str, path: str | Path) -> ContactPlan:
    """Read a plan.

    Raises:
        InputError: with file, line, value and remedy.
    """
    fields: dict[str, Any] = {}
    rows: dict[str, list[tuple[Any, int]]] = {"contacts": [], "ranges": []}
    scanner = Scanner(text, path)
    for key, value, line in scanner.members(set(rows)):
        if key in rows:
            rows[key].append((value, line))
        else:
            fields[key] = value
    for key in rows.keys() - scanner.keys:
        raise InputError(f"the plan lacks {key!r}", remedy=f"add {key!r}, an empty list if there are none", file=path)
    made = checked(HeaderRecord, fields, None, path, 1)
    header = PlanHeader(made.epoch, made.start, made.end, made.nodes, made.meta)
    contacts = [checked(ContactRecord, row, made.nodes, path, line).contact() for row, line in rows["contacts"]]
    ranges = [checked(RangeRecord, row, made.nodes, path, line).range() for row, line in rows["ranges"]]
    return collect(header, contacts, ranges)


class Scanner:
    """Walks a JSON object member by member and knows the line of each row of its long lists.

    Attributes:
        keys: the keys met so far.
    """

    def __init__(self, text: str, path: str | Path) -> None:
        self._text, self._path = text, path
        self._decoder = json.JSONDecoder(parse_constant=self._refuse)
        self._line, self._counted = 1, 0
        self.keys: set[str] = set()

    def members(self, lists: set[str]) -> Iterator[tuple[str, Any, int]]:
        """Key, value and line of every member of the top object; a member named in `lists` comes row by row.

        Raises:
            InputError: when the text is no JSON object.
        """
        position = self._expect("{", 0, "the file holds no JSON object")
        following = self._skip(position)
        if self._text[following : following + 1] != "}":
            while True:
                key, position = self._value(self._skip(position))
                if not isinstance(key, str):
                    raise self._error("a key is no text", position)
                position = self._skip(self._expect(":", position, f"no ':' after {key!r}"))
                self.keys.add(key)
                if key in lists:
                    position = yield from self._rows(key, position)
                else:
                    value, after = self._value(position)
                    yield key, value, self._at(position)
                    position = after
                position = self._skip(position)
                if self._text[position : position + 1] != ",":
                    break
                position += 1
        position = self._expect("}", position, "the JSON object does not end")
        if self._skip(position) != len(self._text):
            raise self._error("text after the JSON object", position)

    def _rows(self, key: str, position: int) -> Generator[tuple[str, Any, int], None, int]:
        position = self._expect("[", position, f"{key!r} is no list")
        following = self._skip(position)
        if self._text[following : following + 1] == "]":
            return following + 1
        while True:
            position = self._skip(position)
            value, after = self._value(position)
            yield key, value, self._at(position)
            position = self._skip(after)
            if self._text[position : position + 1] != ",":
                return self._expect("]", position, f"the list {key!r} does not end")
            position += 1

    def _value(self, position: int) -> tuple[Any, int]:
        try:
            return self._decoder.raw_decode(self._text, position)
        except json.JSONDecodeError as error:
            raise self._error(error.msg[0].lower() + error.msg[1:], error.pos) from None
        except (RecursionError, ValueError):
            raise self._error("a value is nested too deep or a number is too long", position) from None

    def _refuse(self, constant: str) -> None:
        raise InputError(f"{constant} is no JSON number", remedy="give a finite number", file=self._path)

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self._text, position)
        return match.end() if match else position

    def _expect(self, symbol: str, position: int, problem: str) -> int:
        position = self._skip(position)
        if self._text[position : position + 1] != symbol:
            raise self._error(problem, position)
        return position + 1

    def _at(self, position: int) -> int:
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def _error(self, problem: str, position: int) -> InputError:
        line = self._text.count("\n", 0, position) + 1
        return InputError(f"malformed JSON: {problem}", remedy="mend the syntax", file=self._path, line=line)
