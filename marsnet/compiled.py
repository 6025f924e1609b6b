"""Which modules run as machine code, and whether they do here.

Where bundles and segments are handled, marsnet's Python is compiled by mypyc (`make compiled`, part of `make setup`).
What was compiled is used only while it is of the very sources that are there; else, or where the environment variable
`MARSNET_INTERPRETED` is set, Python interprets the sources. The results are the same, up to the last bit of a ledger.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
"""The package's folder."""

_FILES = {
    "dtn": "recipe",
    "dtn/bpv7": "blocks bundle cbor codec crc eid errors extension",
    "dtn/ltp": "aggregate config core counters engine events exporter exports importer imports link peers ranges"
    " runs sdnv segments timers trains",
    "dtn/node": "agent arriving assembly backoff carriage contacts custody delivery flowing forwarding green groups"
    " handling intake keeping layer leaving ledger lifetimes ltp_layer queues reasons recent returning runner traffic"
    " ways",
    "dtn/routing": "api base candidates ledger sabr search",
    "dtn/store": "base memory room store types",
    "links": "pipeline timeline",
    "plan": "types",
    "worlds": "virtual",
}
SOURCES = tuple(f"{folder}/{name}.py" for folder, names in _FILES.items() for name in names.split())
"""Files below the package's folder that are compiled, all together or none: one calls the other without Python's help.
Not among them: what pydantic reads annotations of, subclasses of types that are in C, and packages themselves."""


class _FromSource:
    """Finds the sources of modules that were compiled from others."""

    def __init__(self) -> None:
        self._paths = {_module(name): ROOT / name for name in SOURCES}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module of the source; None for all that is never compiled."""
        source = self._paths.get(fullname)
        if source is None:
            return None
        return spec_from_file_location(fullname, source)


def _module(name: str) -> str:
    return ".".join(("marsnet", *name.removesuffix(".py").split("/")))


def library(root: Path = ROOT) -> str:
    """Name of the module that holds the machine code of the sources below a folder, in the package."""
    digest = hashlib.blake2b(digest_size=6)
    for name in SOURCES:
        digest.update((root / name).read_bytes() + b"\0")
    return f"compiled_{digest.hexdigest()}"


def files(root: Path = ROOT) -> list[Path]:
    """What the compiler has made of the sources that are there now; nothing where that is not complete."""
    suffix = EXTENSION_SUFFIXES[0]
    try:
        made = [root / f"{library(root)}__mypyc{suffix}"]
    except FileNotFoundError:
        return []
    made += [(root / name).with_suffix(suffix) for name in SOURCES]
    return made if all(file.exists() for file in made) else []


def choose() -> bool:
    """Whether machine code is used; called before anything of the package is imported."""
    if not (ROOT / SOURCES[0]).with_suffix(EXTENSION_SUFFIXES[0]).exists():
        return False
    if not os.environ.get("MARSNET_INTERPRETED") and files():
        return True
    sys.meta_path.insert(0, _FromSource())
    return False


ACTIVE = choose()
"""Whether this process runs machine code."""
