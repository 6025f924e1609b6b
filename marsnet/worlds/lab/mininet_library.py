"""Mininet's classes, from wherever the distribution keeps them.

Debian and Ubuntu install Mininet for the system's Python, outside of any virtual environment. Only this one package is
taken from there; everything else the environment holds stays as it is.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder

from marsnet.errors import EnvironmentLacksError

_DISTRIBUTION = ["/usr/lib/python3/dist-packages"]


def _provide() -> None:
    if "mininet" in sys.modules or importlib.util.find_spec("mininet") is not None:
        return
    found = PathFinder.find_spec("mininet", _DISTRIBUTION)
    if found is None or found.loader is None:
        raise EnvironmentLacksError("Mininet is not installed", fix="apt-get install mininet")
    module = importlib.util.module_from_spec(found)
    sys.modules["mininet"] = module
    found.loader.exec_module(module)


_provide()

from mininet.link import Intf, Link  # noqa: E402
from mininet.net import Mininet  # noqa: E402
from mininet.node import Host, OVSSwitch  # noqa: E402

# Mininet tunes limits and buffers of the whole machine when its first network is made; a lab leaves them alone.
Mininet.inited = True

__all__ = ["Host", "Intf", "Link", "Mininet", "OVSSwitch"]
