"""What a lab remembers about itself while it is up, in its runtime directory.

The file is written when the lab is complete; a lab whose namespace or containers exist without it was broken off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from marsnet.worlds.lab import spec

_FILE = "lab.json"


@dataclass
class LabState:
    """A lab that is up.

    Attributes:
        name: the lab.
        digest: fingerprint of its topology.
        run: the run it was made for; empty for none.
        run_dir: where its services write.
        datapath: `system` or `netdev`.
        delay_line: whether its links obey a delay line.
        numbers: node name to number.
        segments: node name to segment.
        links: link name to its two nodes and the interface at either.
        services: process id and addresses of each service that was started.
    """

    name: str
    digest: str
    run: str
    run_dir: str
    datapath: str
    delay_line: bool
    numbers: dict[str, int]
    segments: dict[str, str]
    links: dict[str, dict[str, str]]
    services: dict[str, dict[str, str | int]] = field(default_factory=dict)

    def save(self) -> None:
        """Write the state, replacing the former one at once."""
        target = spec.runtime_dir(self.name) / _FILE
        draft = target.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(target)

    def record(self, service: str, facts: Mapping[str, str | int]) -> None:
        """Remember a service, and save."""
        self.services[service] = dict(facts)
        self.save()

    def forget(self, service: str) -> None:
        """Forget a service that was stopped, and save."""
        self.services.pop(service, None)
        self.save()


def load(lab: str) -> LabState | None:
    """The state of a lab; None when it is not (completely) up, or was built by another version of this program."""
    try:
        return LabState(**json.loads((spec.runtime_dir(lab) / _FILE).read_text()))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def names() -> list[str]:
    """Labs that have a state on this machine, readable or not."""
    return sorted(file.parent.name for file in spec.RUNTIME_ROOT.glob(f"*/{_FILE}"))
