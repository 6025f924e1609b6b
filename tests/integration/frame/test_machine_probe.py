"""The kernel is asked by trying, and the tries leave nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


def probe(*qdiscs: str, prefix: tuple[str, ...] = ()) -> dict[str, object]:
    command = [*prefix, sys.executable, "-m", "marsnet.worlds.machine_probe", *qdiscs]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_discipline_that_the_kernel_has_works_and_an_invented_one_does_not() -> None:
    answers = probe("tbf", "no_such_qdisc", "tbf")
    assert answers["namespace"] == "network"
    assert answers["qdisc"] == {"tbf": "", "no_such_qdisc": "ENOENT"}
    assert answers["link"] == {"veth": ""}
    assert not list(Path("/sys/class/net").glob("probe*"))


def test_without_privileges_real_time_is_refused() -> None:
    # Nobody keeps the right to read: the checkout may lie in a folder that is closed to others.
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    answers = probe(prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading))
    assert answers["realtime"] is False
    assert answers["namespace"] in {"", "user and network"}
