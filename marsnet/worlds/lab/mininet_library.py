"""Mininet's classes as the lab uses them."""

from __future__ import annotations

from marsnet.errors import EnvironmentLacksError

try:
    from mininet.link import Intf, Link
    from mininet.net import Mininet
    from mininet.node import Host, OVSSwitch
except ImportError as error:
    raise EnvironmentLacksError("Mininet is not installed for this Python", fix="make setup") from error

# Mininet tunes limits and buffers of the whole machine when its first network is made; a lab leaves them alone.
Mininet.inited = True

__all__ = ["Host", "Intf", "Link", "Mininet", "OVSSwitch"]
