"""Sets a machine up for marsnet: packages, environment, Docker daemon, images. Says what it does, and only then.

Run by `make setup`. A second run finds everything in place and says nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from frame import compiled, daemon, oracles, packages, say, venv

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Parses the purpose and takes the steps that it needs."""
    parser = argparse.ArgumentParser(description="Set this machine up for marsnet.")
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=["unit", "warp", "lab", "test"],
        default="lab",
        help="unit: the Python part; warp: that and what the warp world needs; lab: all that an emulated run needs; "
        "test: that and what the tests need",
    )
    purpose = parser.parse_args().purpose
    log = ROOT / ".cache" / "setup.log"
    tests = purpose == "test"
    if tests and not say.is_root():
        say.step("not root: only the Python part is set up, tests that build networks will be skipped")
        purpose = "unit"
    wanted = packages.for_units(sys.executable)
    if purpose == "warp":
        wanted += packages.for_warp()
    if purpose in {"lab", "test"}:
        wanted += packages.for_labs()
    if purpose == "test":
        wanted += packages.for_tests()
    packages.ensure(wanted, log)
    venv.ensure(ROOT, sys.executable, log)
    compiled.ensure(ROOT, log)
    if tests:
        oracles.ensure(ROOT, sys.executable, log)
    if purpose in {"unit", "warp"}:
        return
    daemon.ensure(ROOT)
    python = str(ROOT / ".venv" / "bin" / "python")
    built = subprocess.run([python, "-m", "marsnet.worlds.images"], stdout=subprocess.DEVNULL, check=False)
    sys.exit(built.returncode)


if __name__ == "__main__":
    main()
