"""A malformed line of an imported plan is one clear error: file, line, value, remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsnet.errors import InputError
from marsnet.plan.files import FORMATS, Format, read_plan

HEAD = '{"marsnet": "plan/1", "epoch": "2026-10-01", "start": 0, "end": 9, "nodes": {"a": 1, "b": 2},\n'
CSV = "# epoch 2026-10-01T00:00:00Z\n# node 1 a\n# node 2 b\nkind,link,source,target,start,end,rate,owlt\n"

MALFORMED: dict[str, tuple[Format, str, str]] = {
    "ion-fields": (
        "ion",
        "# node 1 a\na contact +0 +60 1 2\n",
        "2: 'a contact' has 4 fields; write 'a contact start stop source target bytes_per_second'",
    ),
    "ion-time": (
        "ion",
        "a contact 2026-10-01 +60 1 2 9\n",
        "1: '2026-10-01' is no time; write 2026/10/01-12:00:00 or +3600",
    ),
    "ion-node": (
        "ion",
        "@ 2026/10/01-00:00:00\na contact +0 +60 mro 2 9\n",
        "2: 'mro' is no node number; write an ipn node number from 1 to 4294967295",
    ),
    "ion-rate": (
        "ion",
        "@ 2026/10/01-00:00:00\na contact +0 +60 1 2 fast\n",
        "2: 'fast' is no number; write a plain number",
    ),
    "ion-zero-rate": (
        "ion",
        "@ 2026/10/01-00:00:00\na contact +0 +60 1 2 0\n",
        "2: rate is 0.0; it should be greater than 0",
    ),
    "ion-backwards": (
        "ion",
        "@ 2026/10/01-00:00:00\na range +60 +0 1 2 5\n",
        "2: end 0 is not after start 60; give an end after the start",
    ),
    "ion-command": (
        "ion",
        "a plan 5\n",
        "1: 'a plan 5' is no command of a contact plan; write 'a contact', 'a range', '@' or '#'",
    ),
    "ion-hypothetical": (
        "ion",
        "@ 2026/10/01-00:00:00\n\na contact +0 +60 1 2 9 0.5\n",
        "3: 'a contact +0 +60 1 2 9 0.5' is no scheduled contact; remove it: a plan holds scheduled contacts of "
        "confidence 1 only",
    ),
    "ion-beyond": (
        "ion",
        "@ 2026/10/01-00:00:00\na contact +0 +1e20 1 2 9\n",
        "2: '+1e20' is beyond the calendar; write a smaller number",
    ),
    "ion-comment": (
        "ion",
        "# marsnet plan/1\n# node one a\n",
        "2: '# node one a': invalid literal for int() with base 10: 'one'; mend the number",
    ),
    "ion-version": ("ion", "# marsnet plan/7\n", "1: version 'plan/7'; this program reads 'plan/1'"),
    "json-syntax": (
        "json",
        HEAD + '"contacts": [\n{"link": "l" "source"}],\n"ranges": []}',
        "3: malformed JSON: expecting ',' delimiter; mend the syntax",
    ),
    "json-missing": (
        "json",
        HEAD + '"contacts": [\n{"link": "l", "source": "a", "target": "b", "start": 0, "end": 5}], "ranges": []}',
        "3: the contact lacks 'rate'; add 'rate'",
    ),
    "json-unknown-node": (
        "json",
        HEAD + '"contacts": [],\n"ranges": [\n{"source": "a", "target": "c", "start": 0, "end": 5, "owlt": 1}]}',
        "4: unknown node 'c'; there are a, b",
    ),
    "json-text-for-number": (
        "json",
        HEAD + '"ranges": [], "contacts": [\n\n{"link": "l", "source": "a", "target": "b", "start": 0, "end": "5", '
        '"rate": 1}]}',
        "4: end is '5'; it should be a valid number",
    ),
    "json-loss": (
        "json",
        HEAD + '"ranges": [], "contacts": [\n{"link": "l", "source": "a", "target": "b", "start": 0, "end": 5, '
        '"rate": 1, "loss": 2}]}',
        "3: loss is 2; it should be less than or equal to 1",
    ),
    "json-extra": (
        "json",
        HEAD + '"ranges": [], "contacts": [\n{"link": "l", "source": "a", "target": "b", "start": 0, "end": 5, '
        '"rate": 1, "speed": 2}]}',
        "3: unknown key 'speed'; known keys: source, target, start, end, link, rate, ber, loss",
    ),
    "json-row": ("json", HEAD + '"ranges": [5], "contacts": []}', "2: 5 is no range; write a mapping of its fields"),
    "json-end": (
        "json",
        HEAD + '"ranges": [], "contacts": []',
        "2: malformed JSON: the JSON object does not end; mend the syntax",
    ),
    "json-version": (
        "json",
        HEAD.replace("plan/1", "plan/2") + '"ranges": [], "contacts": []}',
        "1: marsnet is 'plan/2'; it should be 'plan/1'",
    ),
    "json-epoch": (
        "json",
        HEAD.replace("2026-10-01", "2026-13-01") + '"ranges": [], "contacts": []}',
        "1: epoch: '2026-13-01' is not a UTC instant; write it as 2026-10-01T12:00:00Z",
    ),
    "json-lacks": (
        "json",
        HEAD + '"ranges": []}',
        " the plan lacks 'contacts'; add 'contacts', an empty list if there are none",
    ),
    "csv-number": ("csv", CSV + "contact,l,a,b,0,soon,9,\n", "5: end is 'soon'; write a plain number"),
    "csv-kind": ("csv", CSV + "link,l,a,b,0,5,9,\n", "5: kind is 'link'; write 'contact' or 'range'"),
    "csv-fields": (
        "csv",
        CSV + "contact,l,a,b,0\n",
        "5: 5 fields where there are 8 columns; give one field for each column",
    ),
    "csv-node": ("csv", CSV + "range,,a,z,0,5,,1\n", "5: unknown node 'z'; there are a, b"),
    "csv-epoch": ("csv", CSV.split("\n", 1)[1], "1: no epoch; add the line '# epoch 2026-10-01T00:00:00Z'"),
    "csv-columns": (
        "csv",
        "# epoch 2026-10-01\nwhat,link\n",
        "2: no column 'kind'; name the columns kind,link,source,target,start,end,start_utc,rate,ber,loss,owlt,slope",
    ),
    "hdtn-missing": (
        "hdtn",
        '{"contacts": [\n{"contact": 0, "source": 1, "dest": 2, "startTime": 0, "rateBitsPerSec": 9}]}',
        "2: the contact lacks 'endTime'; give 'endTime' as a number",
    ),
    "hdtn-text": (
        "hdtn",
        '{"contacts": [\n{"contact": 0, "source": 1, "dest": "mro", "startTime": 0, "rateBitsPerSec": 9}]}',
        "2: dest is 'mro'; give 'dest' as a number",
    ),
    "hdtn-none": ("hdtn", "{}", "1: the file has no 'contacts'; add 'contacts': [...]"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_line_is_placed_and_explained(name: str, tmp_path: Path) -> None:
    format_name, text, expected = MALFORMED[name]
    path = tmp_path / "bad.plan"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_plan(path, format_name, epoch="2026-10-01" if format_name == "hdtn" else None)
    assert str(caught.value) == f"{path}:{expected}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file '.*absent\.json'; check the path"):
        read_plan(tmp_path / "absent.json")


WORDS = st.sampled_from(
    [
        "a contact",
        "a range",
        "@",
        "#",
        "# node",
        "+0",
        "+60",
        "1",
        "2",
        "1e400",
        "nan",
        "-1",
        "2026/10/01-00:00:00",
        "{",
        "}",
        '"contacts"',
        '"ranges"',
        '"marsnet"',
        ":",
        "[",
        "]",
        ",",
        '"plan/1"',
        "null",
        "NaN",
        "kind,",
        "\n",
        "[" * 2000,
    ]
)


@given(st.sampled_from(FORMATS), st.lists(WORDS | st.text(max_size=5), max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_a_file_holds_it_is_a_plan_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, format_name: Format, words: list[str]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "plan"
    path.write_bytes(" ".join(words).encode("utf-8", "ignore"))
    try:
        plan = read_plan(path, format_name, epoch="2026-10-01")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert plan.epoch
