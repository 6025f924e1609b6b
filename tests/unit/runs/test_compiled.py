"""Machine code and interpreted sources do the same, and machine code of other sources is left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from marsnet import compiled

ROOT = Path(__file__).parents[3]
BUILT = pytest.mark.skipif(not compiled.files(), reason="nothing was compiled of these sources; make compiled")


def python(*words: str, folder: Path = ROOT, interpreted: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MARSNET_INTERPRETED"}
    environment["PYTHONPATH"] = str(folder)
    if interpreted:
        environment["MARSNET_INTERPRETED"] = "1"
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcome(folder: Path, *, interpreted: bool) -> object:
    scenario = ROOT / "scenarios" / "edl.yaml"
    words = ("-m", "marsnet.cli", "run", str(scenario), "--world", "virtual", "--output", str(folder), "--json")
    verdict = json.loads(python(*words, interpreted=interpreted))
    return verdict["ledger_hash"], verdict["passed"]


@BUILT
def test_both_write_the_same_ledger(tmp_path: Path) -> None:
    which = "import marsnet.compiled as c; print(c.ACTIVE)"
    assert [python("-c", which).strip(), python("-c", which, interpreted=True).strip()] == ["True", "False"]
    assert outcome(tmp_path / "a", interpreted=False) == outcome(tmp_path / "b", interpreted=True)


def test_what_was_compiled_of_other_sources_is_not_used(tmp_path: Path) -> None:
    package = tmp_path / "marsnet"
    shutil.copytree(compiled.ROOT, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    made = [package / f"{compiled.library(package)}__mypyc{EXTENSION_SUFFIXES[0]}"]
    made += [(package / name).with_suffix(EXTENSION_SUFFIXES[0]) for name in compiled.SOURCES]
    for file in made:
        file.write_bytes(b"no machine code: importing this fails")
    assert compiled.files(package) == made
    source = package / "dtn" / "ltp" / "sdnv.py"
    source.write_text(source.read_text() + "\nEDITED = True\n")
    assert compiled.files(package) == []
    told = "import marsnet.compiled as c, marsnet.dtn.ltp.sdnv as s; print(c.ACTIVE, s.EDITED, s.__file__)"
    assert python("-c", told, folder=tmp_path).split() == ["False", "True", str(source)]


def test_part_of_it_is_not_used(tmp_path: Path) -> None:
    package = tmp_path / "marsnet"
    shutil.copytree(compiled.ROOT, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in compiled.SOURCES[:3]:
        (package / name).with_suffix(EXTENSION_SUFFIXES[0]).write_bytes(b"")
    told = "import marsnet.compiled as c, marsnet.dtn.bpv7.cbor as s; print(c.ACTIVE, s.__file__)"
    assert python("-c", told, folder=tmp_path).split() == ["False", str(package / "dtn" / "bpv7" / "cbor.py")]
