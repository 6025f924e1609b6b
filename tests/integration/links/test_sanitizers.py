"""The C core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, and with warnings as errors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = ROOT / "marsnet/links/core"
DRIVER = ROOT / "tests/unit/links/core/drive.c"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler")]

SETUP = """
mount -t sysfs sysfs /sys
for i in 0 1; do
  ip link add m$i type veth peer name e$i && ip link set m$i up && ip link set e$i up || exit 98
  echo 1 > /proc/sys/net/ipv6/conf/m$i/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/e$i/disable_ipv6
done
exec "$@"
"""


def build(tmp_path: Path, *flags: str) -> Path:
    program = tmp_path / "drive"
    sources = [DRIVER, *(CORE / f"{name}.c" for name in ("store", "pipeline", "train", "wire", "engine"))]
    done = subprocess.run(
        ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{CORE}", "-pthread", *flags,
         "-o", str(program), *map(str, sources)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return program


SANITIZERS = pytest.mark.parametrize(
    "flags",
    [("-fsanitize=address,undefined", "-fno-sanitize-recover=all"), ("-fsanitize=thread",)],
    ids=["address", "thread"],
)


@SANITIZERS
def test_physics_is_clean(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = subprocess.run([build(tmp_path, *flags)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.root
@SANITIZERS
def test_the_engine_is_clean(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = build(tmp_path, *flags)
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", SETUP, "-", program, tmp_path, tmp_path / "x.pcapng"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "x.pcapng").stat().st_size > 30_000 * 1200
