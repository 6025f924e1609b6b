"""The lab under the emulated world: containers, Open vSwitch, Mininet, controllers and Prometheus, by label."""

from __future__ import annotations

from marsnet.worlds.lab.cleanup import LabStatus, NodeStatus, down_by_label, inspect, labs
from marsnet.worlds.lab.control import ControllerProgram
from marsnet.worlds.lab.lab import Lab
from marsnet.worlds.lab.prometheus import Target
from marsnet.worlds.lab.spec import Limits, LinkSpec, NodeSpec, Segment

__all__ = [
    "ControllerProgram",
    "Lab",
    "LabStatus",
    "Limits",
    "LinkSpec",
    "NodeSpec",
    "NodeStatus",
    "Segment",
    "Target",
    "down_by_label",
    "inspect",
    "labs",
]
