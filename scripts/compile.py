"""Compiles the modules that marsnet.compiled names, in place, with mypyc. Does nothing where that is done.

Run by `make compiled` with the environment's interpreter, in the root of the checkout.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from marsnet import compiled  # noqa: E402  The checkout's own, whatever is installed.


def main() -> None:
    """Compiles, and puts the results beside their sources."""
    if compiled.files():
        return
    print("set-up: compiling the modules where bundles are handled (two minutes)", file=sys.stderr, flush=True)
    for file in [path for path in compiled.ROOT.rglob("*.so") if not path.name.startswith("_")]:
        file.unlink()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="marsnet-compile-") as scratch:
        extensions = mypycify(
            [f"marsnet/{name}" for name in compiled.SOURCES],
            group_name=f"marsnet.{compiled.library()}",
            opt_level="2",
            debug_level="0",
            target_dir=scratch,
        )
        arguments = ["--quiet", "build_ext", "--inplace", "--build-temp", scratch, "--build-lib", f"{scratch}/lib"]
        setup(name="marsnet-compiled", packages=[], ext_modules=extensions, script_args=arguments)


if __name__ == "__main__":
    main()
