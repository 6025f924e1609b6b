"""What guests need of the host: programs, user namespaces and subordinate ids where nobody is root, memory, disk.

All that is missing is told at once and before anything is made, so that nobody mends one thing, waits for minutes, and
hears of the next.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds.machine_resources import GIB, available_memory, nearest_existing

PROGRAMS = (
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("setpriv", "util-linux"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mmdebstrap", "mmdebstrap"),
    ("bsdtar", "libarchive-tools"),
    ("depmod", "kmod"),
)
"""Programs that make and run a guest, and the Debian packages that have them."""
DISK = 8 * GIB
"""Bytes that the parts of a guest and the guests that are kept take at most while they are made."""
IDS = 65_536
"""Subordinate ids that a root file system takes; useradd(8) gives people as many."""
_FIRST_ID = 100_000
"""The first that useradd(8) gives (login.defs(5), SUB_UID_MIN)."""


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that is missing, and the command that mends it; a Debian package where that is all."""

    what: str
    fix: str = ""
    package: str = ""


def which(program: str) -> str | None:
    """Its path, also where PATH leaves out the system administrator's folders, as Debian's users have it."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def lacks(folder: Path) -> list[Lack]:
    """What keeps guests from being made here; empty where nothing does.

    Args:
        folder: that is to hold them; it need not exist yet.
    """
    found = [Lack(f"{name} is not installed", package=package) for name, package in PROGRAMS if which(name) is None]
    if os.geteuid() != 0:
        found += unprivileged()
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < DISK:
        told = f"a guest's parts take {DISK / GIB:g} GiB of disk, and {free / GIB:.1f} GiB are free at {folder}"
        found.append(Lack(told, fix="free some disk"))
    return found


def unprivileged(etc: Path = Path("/etc"), probe: Sequence[str] = ("unshare", "--user", "true")) -> Iterator[Lack]:
    """What keeps a user without root from making a root file system (user_namespaces(7), subuid(5)).

    Args:
        etc: folder of subuid and subgid.
        probe: command that succeeds where users may have user namespaces.
    """
    if which("newuidmap") is None:
        yield Lack("newuidmap, by which root's files are made without root, is not installed", package="uidmap")
    user = pwd.getpwuid(os.geteuid()).pw_name
    listings = [etc / name for name in ("subuid", "subgid")]
    lacking = [listing for listing in listings if not _has_ids(listing, user)]
    if lacking:
        used = [first + length for listing in listings for _, first, length in _ranges(listing)]
        yield Lack(
            f"the user {user} has no range of {IDS} subordinate ids in {' and '.join(map(str, lacking))}",
            # usermod(8) has an option for it, and refuses while the user is logged in.
            fix=f"echo {user}:{max([_FIRST_ID, *used])}:{IDS} | tee --append {' '.join(map(str, lacking))}",
        )
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        yield Lack(
            f"the user {user} may not have user namespaces",
            fix="sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        )


def _has_ids(listing: Path, user: str) -> bool:
    """Whether a user's first range, which is the one that mmdebstrap takes, is long enough."""
    return next((length for name, _, length in _ranges(listing) if name == user), 0) >= IDS


def _ranges(listing: Path) -> list[tuple[str, int, int]]:
    """User, first id and length of each line (subuid(5))."""
    lines = listing.read_text().splitlines() if listing.is_file() else []
    found = (line.split(":") for line in lines)
    return [(name, int(first), int(length)) for name, first, length in (f for f in found if len(f) == 3)]


def require(folder: Path) -> None:
    """Return where guests can be made.

    Raises:
        EnvironmentLacksError: naming all that is missing, and the commands that mend it.
    """
    found = lacks(folder)
    if found:
        raise EnvironmentLacksError("; ".join(lack.what for lack in found), fix=remedy(found))


def remedy(found: Sequence[Lack]) -> str:
    """The commands that mend all of it, in one line."""
    packages = [lack.package for lack in found if lack.package]
    install = [f"apt-get install --no-install-recommends {' '.join(packages)}"] if packages else []
    return " && ".join(install + [lack.fix for lack in found if lack.fix])


def require_memory(wanted: int) -> None:
    """Return where this machine has so many bytes of memory for a guest.

    Raises:
        EnvironmentLacksError: it has not.
    """
    available = available_memory()
    if available < wanted:
        raise EnvironmentLacksError(
            f"the guest needs {wanted >> 20} MiB of memory, and {available >> 20} MiB are free",
            fix="end other programs, run fewer seeds at once, or give the topology's containers less memory",
        )
