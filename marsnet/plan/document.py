"""The records of a plan document, checked on import and published as a JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from marsnet.errors import InputError
from marsnet.model.quantities import Utc
from marsnet.plan.types import Contact, Range

VERSION = "plan/1"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Word = Annotated[str, Field(pattern=r"^\S+$")]
Seconds = Annotated[float, Field(ge=-1e10, le=1e10)]
Number = Annotated[int, Field(ge=1, le=2**32 - 1)]


class _Directed(_Record):
    source: Word = Field(description="transmitting node")
    target: Word = Field(description="receiving node")
    start: Seconds = Field(description="seconds after the epoch, at the transmitter")
    end: Seconds = Field(description="seconds after the epoch, at the transmitter")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end:g} is not after start {self.start:g}; give an end after the start")
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; name two nodes")
        return self


class ContactRecord(_Directed):
    """One direction of a link while its parameters are constant."""

    link: Word = Field(description="name of the link in the topology")
    rate: float = Field(gt=0, description="bit/s")
    ber: float = Field(default=0.0, ge=0, le=1, description="bit error rate after coding")
    loss: float = Field(default=0.0, ge=0, le=1, description="probability that a frame is lost")

    def contact(self) -> Contact:
        """The contact of the record."""
        return Contact(self.link, self.source, self.target, self.start, self.end, self.rate, self.ber, self.loss)


class RangeRecord(_Directed):
    """Light time of one direction, linear in time."""

    owlt: float = Field(ge=0, description="one-way light time, seconds, of what leaves at the start")
    slope: float = Field(default=0.0, gt=-1, lt=1, description="change of the light time per second")

    def range(self) -> Range:
        """The range of the record."""
        return Range(self.source, self.target, self.start, self.end, self.owlt, self.slope)


class PlanDocument(_Record):
    """A contact plan. Times are seconds after `epoch`, stated at the transmitter."""

    marsnet: Literal["plan/1"]
    epoch: Utc = Field(description="UTC instant of time 0")
    start: Seconds = Field(description="first second that the plan covers")
    end: Seconds = Field(description="end of the interval that the plan covers")
    nodes: dict[Word, Number] = Field(description="node name to ipn node number")
    meta: dict[str, str] = Field(default_factory=dict, description="where the plan comes from")
    contacts: list[ContactRecord] = Field(description="ordered by start")
    ranges: list[RangeRecord] = Field(description="ordered by start")


class HeaderRecord(_Record):
    """A plan document without its contacts and ranges."""

    marsnet: Literal["plan/1"]
    epoch: Utc
    start: Seconds
    end: Seconds
    nodes: dict[Word, Number]
    meta: dict[str, str] = Field(default_factory=dict)


Record = TypeVar("Record", bound=_Record)


def checked(record: type[Record], data: Any, known: dict[str, int] | None, path: object, line: int) -> Record:
    """A record made of imported data.

    Args:
        record: what to make.
        data: a mapping of field to value.
        known: node names that source and target must be among; None leaves them unchecked.
        path: file that is imported.
        line: its line, counted from 1.

    Raises:
        InputError: with file, line, value and remedy.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"{data!r} is no {_name(record)}", remedy="write a mapping of its fields", file=str(path), line=line
        )
    try:
        made = record.model_validate(data)
    except ValidationError as error:
        raise _explain(record, error.errors()[0], path, line) from None
    if known is not None and isinstance(made, _Directed):
        for end in (made.source, made.target):
            if end not in known:
                remedy = f"there are {', '.join(known) or 'none'}"
                raise InputError(f"unknown node {end!r}", remedy=remedy, file=str(path), line=line)
    return made


def _name(record: type[_Record]) -> str:
    return record.__name__.removesuffix("Record").lower()


def _explain(record: type[_Record], mistake: Any, path: object, line: int) -> InputError:
    field = ".".join(str(part) for part in mistake["loc"])
    kind, value = mistake["type"], mistake["input"]
    if kind == "missing":
        problem, remedy = f"the {_name(record)} lacks {field!r}", f"add {field!r}"
    elif kind == "extra_forbidden":
        problem, remedy = f"unknown key {field!r}", f"known keys: {', '.join(record.model_fields)}"
    elif kind == "value_error":
        problem, _, remedy = mistake["msg"].removeprefix("Value error, ").partition("; ")
        problem = f"{field}: {problem}" if field else problem
    else:
        message = mistake["msg"].removeprefix("Input ")
        problem, remedy = f"{field} is {value!r}", f"it {message}"
    return InputError(problem, remedy=remedy, file=str(path), line=line)
