"""The shell of `marsnet warp debug` without a guest: both ends of its console, and what is refused before it starts."""

from __future__ import annotations

import json
import math
import os
import pty
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from marsnet.errors import InputError
from marsnet.runs.execute import REQUEST, look_at
from marsnet.worlds.warp import recipe, shell, world
from marsnet.worlds.warp.machine import Kept
from marsnet.worlds.warp.shell import MOMENT, Terminal, looking_in
from marsnet.worlds.warp.world import CONTENT, Replay, content_of

SCENARIO = Path(__file__).parents[2] / "integration" / "warp" / "excerpt.yaml"


def test_the_guest_serves_commands_that_come_from_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, inside = pty.openpty()
    monkeypatch.setattr(shell, "_DEVICE", Path(os.ttyname(inside)))
    monkeypatch.setattr(shell, "_COMMANDS", tmp_path / ".commands")
    (tmp_path / ".commands").write_text(shell._RC)
    (tmp_path / "here").write_text("it is here\n")
    ready = threading.Event()
    serving = threading.Thread(target=shell._serve, args=(tmp_path, ready.set))
    serving.start()
    assert ready.wait(20)
    os.write(outside, b"program\n")
    os.write(outside, b"cat here; type node | head -n1\n\x04")
    serving.join(20)
    assert not serving.is_alive()
    said = os.read(outside, 65536)
    assert said == b"it is here\nnode is a function\n"
    os.close(outside)
    os.close(inside)


def test_the_terminal_passes_on_what_is_typed_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, got, output = tmp_path / "shell", b"", tmp_path / "said"
    with socket.socket(socket.AF_UNIX) as server, output.open("w") as said, (tmp_path / "typed").open("w+") as typed:
        server.bind(str(path))
        server.listen()
        typed.write("ls\nexit\n")
        typed.seek(0)
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stdout", said)
        terminal = Terminal(path)
        terminal.begin()
        line, _ = server.accept()
        while not got.endswith(b"\x04"):
            got += line.recv(100)
        line.sendall(b"nodes\nplan.json\n")
        line.close()
        terminal.end()
    assert got == b"program\nls\nexit\n\x04"
    assert output.read_text() == "nodes\nplan.json\n"


def test_a_terminal_that_never_began_ends_too(tmp_path: Path) -> None:
    Terminal(tmp_path / "none").end()


def test_all_runs_are_told_a_moment_of_one_length(tmp_path: Path) -> None:
    never, soon = MOMENT.pack(math.inf), MOMENT.pack(480.0)
    assert len(never) == len(soon)
    assert looking_in(never, tmp_path, print).at == math.inf
    assert looking_in(soon, tmp_path, print).at == 480.0


def test_what_a_guest_is_made_of_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "cache", lambda: tmp_path / "cache")
    (tmp_path / "program.tar").write_bytes(b"one")
    parts, entries = [tmp_path / "cache" / "root-1.tar", tmp_path / "program.tar"], {"mission/order.json": b"{}"}
    first = content_of(parts, entries)
    assert first == content_of(parts, dict(entries))
    assert first != content_of(parts, {"mission/order.json": b"{ }"})
    (tmp_path / "program.tar").write_bytes(b"two")
    assert first != content_of(parts, entries)


def a_run(folder: Path, **changes: object) -> Path:
    asked = {
        "scenario": str(SCENARIO), "seed": 7, "without_faults": False, "settings": {}, "links": "line", "datapath": None
    }  # fmt: skip
    (folder / REQUEST).write_text(json.dumps(asked | changes))
    (folder / CONTENT).write_text("0123456789ab\n")
    return folder


def test_a_run_is_made_again_with_what_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(world, "look_in", lambda spec, *rest: looked.append((spec, *rest)))
    look_at(a_run(tmp_path, datapath="user"), "8 min")
    look_at(tmp_path, "2027-02-19T12:01:00Z", anyway=True)
    (spec, replay, _, options), (_, other, _, _) = looked
    assert (spec.seed, spec.rate, spec.scenario.name) == (7, 1.0, "excerpt")
    assert (replay, other) == (Replay(480.0, "0123456789ab"), Replay(60.0, ""))
    assert (options.links, options.datapath) == ("line", "user")


@pytest.mark.parametrize(
    ("at", "complaint"),
    [("20 min", "'20 min' is outside of the run; it lasts 10 min"), ("noon", "'noon' is no instant")],
)
def test_a_wrong_moment(at: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        look_at(a_run(tmp_path), at)


def test_a_folder_of_another_world(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run of the warp world; name the folder of one"):
        look_at(tmp_path, "1 min")


def test_what_has_changed_since_is_not_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "content_of", lambda *arguments: "another")
    made = recipe.Parts(tmp_path / "kernel", tmp_path / "root.cpio", (), "key")
    made.root.touch()
    monkeypatch.setattr(recipe, "parts", lambda *arguments: made)
    kept = Kept(tmp_path / "kept" / "ram", tmp_path / "kept" / "state")
    monkeypatch.setattr(world, "ready_guest", lambda *arguments: kept)
    with pytest.raises(InputError, match=r"have changed since that run.*--anyway"):
        look_at(a_run(tmp_path), "1 min")
