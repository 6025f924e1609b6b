"""Plans through every format and back, streams in constant memory, and writing all or nothing."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.plan import ion
from marsnet.plan.files import FORMATS, Format, format_of, read_plan, write_plan, write_plan_to
from marsnet.plan.stream import PlanHeader, PlanStream
from marsnet.plan.types import Contact, ContactPlan, Range

NODES = {"dss14": 14, "mro": 100, "rover": 200}
PAIRS = [(a, b) for a in NODES for b in NODES if a != b]

PLAN = ContactPlan(
    "2026-10-01T00:00:00.000Z",
    0.0,
    88775.244,
    NODES,
    (
        Contact("dss14--mro", "dss14", "mro", 10.25, 3000.75, 100_000.0),
        Contact("dss14--mro", "mro", "dss14", 20.0, 3000.0, 500_004.0, 1e-7, 0.02),
        Contact("uhf", "rover", "mro", 400.0, 1000.5, 256_000.0),
    ),
    (
        Range("dss14", "mro", 0.0, 88775.244, 831.06, 5e-5),
        Range("mro", "dss14", 0.0, 88775.244, 831.05, 5e-5),
        Range("rover", "mro", 400.0, 1000.5, 0.0041, -1e-6),
    ),
    {"topology": "golden"},
)


def text_of(plan: ContactPlan | PlanStream, format: Format) -> str:  # noqa: A002
    out = io.StringIO()
    write_plan_to(plan, out, format)
    return out.getvalue()


def through(plan: ContactPlan, format: Format, folder: Path, name: str = "plan.txt") -> ContactPlan:  # noqa: A002
    path = folder / name
    write_plan(plan, path, format)
    return read_plan(path, format)


times = st.floats(0, 88000, allow_nan=False)


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    """Plans whose contacts of one direction follow each other, and whose ranges are unbroken."""
    contacts: list[Contact] = []
    ranges: list[Range] = []
    for source, target in draw(st.lists(st.sampled_from(PAIRS), max_size=4, unique=True)):
        edges = sorted(draw(st.lists(times, min_size=2, max_size=8, unique=True)))
        for low, high in zip(edges[::2], edges[1::2], strict=False):
            rate, ber = draw(st.floats(1, 1e9)), draw(st.floats(0, 1))
            contacts.append(Contact(f"{source}-to-{target}", source, target, low, high, rate, ber, 0.5))
        owlt, slope = draw(st.floats(10, 1300)), draw(st.floats(-6e-5, 6e-5))
        ranges.append(Range(source, target, edges[0], edges[-1], owlt, slope))
    contacts.sort(key=lambda c: c.start)
    ranges.sort(key=lambda r: r.start)
    return replace(PLAN, contacts=tuple(contacts), ranges=tuple(ranges), _ranges={})


@given(plans(), st.sampled_from(["json", "csv"]))
@settings(deadline=None)
def test_json_and_csv_keep_everything(
    tmp_path_factory: pytest.TempPathFactory,
    plan: ContactPlan,
    format: Format,  # noqa: A002
) -> None:
    assert through(plan, format, tmp_path_factory.mktemp("exact")) == plan


@given(plans(), st.sampled_from(["ion", "ion-relative", "hdtn"]))
@settings(deadline=None)
def test_rounded_formats_are_stable_and_stay_inside(
    tmp_path_factory: pytest.TempPathFactory,
    plan: ContactPlan,
    format: Format,  # noqa: A002
) -> None:
    back = through(plan, format, tmp_path_factory.mktemp("rounded"))
    again = through(back, format, tmp_path_factory.mktemp("again"))
    assert sorted(text_of(back, format).splitlines()) == sorted(text_of(again, format).splitlines())
    assert (back.epoch, back.start, back.end, back.nodes, back.meta) == (
        *(plan.epoch, plan.start, plan.end, plan.nodes),
        plan.meta,
    )
    for contact in back.contacts:
        (origin,) = [
            c
            for c in plan.between(contact.source, contact.target)
            if c.start - 1e-3 <= contact.start and contact.end <= c.end + 1e-3
        ]
        assert contact.link == origin.link
        assert contact.start - origin.start < 1
        assert origin.end - contact.end < 1
        assert 0 <= origin.rate - contact.rate < 8
        middle = (contact.start + contact.end) / 2
        reach = 0.5 + 1e-4 if format.startswith("ion") else 0.5 + 1e-3
        exact = plan.owlt(contact.source, contact.target, middle)
        assert abs(back.owlt(contact.source, contact.target, middle) - exact) <= reach


def test_ion_ranges_follow_the_drift_within_half_a_second(tmp_path: Path) -> None:
    back = through(PLAN, "ion", tmp_path)
    pieces = [piece for piece in back.ranges if piece.source == "dss14"]
    assert [piece.owlt for piece in pieces] == [831, 832, 833, 834, 835]
    for left, right in pairwise(pieces):
        assert left.end == right.start
    for time in range(0, 88775, 97):
        assert abs(back.owlt("dss14", "mro", time) - PLAN.owlt("dss14", "mro", time)) <= 0.5 + 5e-5


def test_ion_commands_as_ion_reads_them() -> None:
    absolute, relative = text_of(PLAN, "ion").splitlines(), text_of(PLAN, "ion-relative").splitlines()
    assert "a contact 2026/10/01-00:00:11 2026/10/01-00:50:00 14 100 12500" in absolute
    assert "a contact 2026/10/01-00:00:20 2026/10/01-00:50:00 100 14 62500" in absolute
    assert "a contact +11 +3000 14 100 12500" in relative
    assert "@ 2026/10/01-00:00:00" in relative
    assert "a range +400 +1001 200 100 0" in relative
    assert all(line.startswith(("#", "@", "a contact ", "a range ")) for line in absolute + relative)


def test_hdtn_contacts_have_hdtns_fields() -> None:
    text = text_of(PLAN, "hdtn")
    assert (
        '{"contact": 0, "source": 14, "dest": 100, "startTime": 11, "endTime": 3000, "rateBitsPerSec": 100000, '
        '"owlt": 831, "link": "dss14--mro"}'
    ) in text


def test_a_plain_ionrc_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "node.ionrc"
    path.write_text(
        "1 1 node.ionconfig\ns\nm production 1000000\n@ 2026/10/01-00:00:00\na contact +0 +3600 1 1 100000\n"
        "a contact +1 +3600 1 2 100000 1.0\na contact +1 +3600 2 1 12500\na range +1 +3600 1 2 20\n"
    )
    plan = read_plan(path)
    assert plan.epoch == "2026-10-01T00:00:00.000Z"
    assert plan.nodes == {"n1": 1, "n2": 2}
    assert plan.contacts == (
        Contact("n1--n2", "n1", "n2", 1.0, 3600.0, 800_000.0),
        Contact("n1--n2", "n2", "n1", 1.0, 3600.0, 100_000.0),
    )
    assert plan.owlt("n1", "n2", 5) == plan.owlt("n2", "n1", 5) == 20


def test_a_range_for_the_way_back_overrides_the_implied_one(tmp_path: Path) -> None:
    path = tmp_path / "node.ionrc"
    path.write_text("@ 2026/10/01-00:00:00\na range +0 +60 1 2 20\na range +0 +60 2 1 30\n")
    plan = read_plan(path)
    assert plan.owlt("n2", "n1", 0) == 30
    assert len(plan.ranges) == 2


def test_an_epoch_can_be_given_for_relative_times(tmp_path: Path) -> None:
    path = tmp_path / "node.ionrc"
    path.write_text("a contact +5 +60 1 2 1000\n")
    assert read_plan(path, epoch="2027-01-01").contacts[0].start == 5
    with pytest.raises(InputError, match=r"node.ionrc:1: '\+5' counts from no reference time"):
        read_plan(path)


def test_a_plan_of_hdtn_itself_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "contactPlan.json"
    path.write_text(
        '{"contacts": [\n {"contact": 0, "source": 102, "dest": 10, "startTime": 0, "endTime": 2000, '
        '"rateBitsPerSec": 1000000000, "owlt": 1},\n'
        ' {"contact": 1, "source": 10, "dest": 2, "startTime": 0, "endTime": 2000, "rate": 1, "owlt": 3}]}\n'
    )
    plan = read_plan(path, epoch="2026-10-01T00:00:00Z")
    assert [c.rate for c in plan.contacts] == [1e9, 1e6]
    assert plan.owlt("n10", "n2", 0) == 3
    with pytest.raises(InputError, match="does not say when its second 0 is"):
        read_plan(path)


@dataclass(frozen=True)
class Piece:
    contacts: tuple[Contact, ...]
    ranges: tuple[Range, ...]


def pieces(count: int) -> Iterator[Piece]:
    for n in range(count):
        start = 100.0 * n
        yield Piece(
            tuple(Contact(f"{a}-{b}", a, b, start + 10, start + 90, 1e6) for a, b in PAIRS),
            tuple(Range(a, b, start, start + 100, 600 + 1e-5 * start, 1e-5) for a, b in PAIRS),
        )


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_stream_is_written_in_constant_memory(format_name: Format, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        header = PlanHeader(PLAN.epoch, 0.0, 100.0 * count, NODES)
        tracemalloc.start()
        write_plan(PlanStream(header, pieces(count)), tmp_path / "long", format_name)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    short = peak(200)
    assert peak(600) < short + 200_000, "400 pieces more are 1 MB more if they are kept"
    assert len(read_plan(tmp_path / "long", format_name).contacts) == 600 * len(PAIRS)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_stream_that_breaks_leaves_the_file_as_it_was(format_name: Format, tmp_path: Path) -> None:
    def broken() -> Iterator[Piece]:
        yield from pieces(3)
        raise InputError("the interval is outside the ephemeris")

    path = tmp_path / "plan"
    path.write_text("what was there")
    with pytest.raises(InputError):
        write_plan(PlanStream(PlanHeader(PLAN.epoch, 0.0, 300.0, NODES), broken()), path, format_name)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_formats_follow_names() -> None:
    names = {"a.json": "json", "a.hdtn.json": "hdtn", "b.csv": "csv", "c.ionrc": "ion", "c.ion": "ion"}
    assert {name: format_of(name) for name in names} == names
    with pytest.raises(InputError, match=r"'plan\.txt' does not tell the plan's format; give a format \(json, csv"):
        format_of("plan.txt")


def test_a_folder_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*No such file or directory; give a writable folder"):
        write_plan(PLAN, tmp_path / "absent" / "plan.json")


def test_a_contact_without_a_whole_second_is_left_out_of_ion() -> None:
    short = replace(PLAN, contacts=(Contact("l", "dss14", "mro", 10.2, 10.9, 1e6),), _ranges={})
    assert "a contact" not in text_of(short, "ion")
    assert ion.read(text_of(short, "ion"), "x").contacts == ()
