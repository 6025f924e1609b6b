"""What this machine can do for marsnet, what it lacks, and the command that mends each lack.

The virtual world needs only Python. The emulated world needs every finding that says `required`; the others say which
of several ways is in use, or which extras are there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from marsnet.errors import EnvironmentLacksError
from marsnet.worlds import machine_kernel, machine_programs, machine_resources, machine_warp
from marsnet.worlds.machine_finding import Finding


@dataclass(frozen=True, slots=True)
class Machine:
    """All findings about a machine, in the order in which a person would ask."""

    findings: tuple[Finding, ...]

    @property
    def lacks(self) -> tuple[Finding, ...]:
        """What keeps the emulated world from running here."""
        return tuple(finding for finding in self.findings if finding.required and finding.state == "missing")

    @property
    def warps(self) -> bool:
        """Whether the warp world can run here."""
        return any(finding.name == machine_warp.NAME and finding.state == "ok" for finding in self.findings)

    def require_emulation(self) -> None:
        """Returns when the emulated world can run here.

        Raises:
            EnvironmentLacksError: naming all that is missing, and the commands that mend it.
        """
        if self.lacks:
            what = ", ".join(f"{finding.name} ({finding.value})" for finding in self.lacks)
            fixes = dict.fromkeys(finding.fix for finding in self.lacks if finding.fix)
            raise EnvironmentLacksError(f"missing: {what}", fix=" && ".join(fixes) or "vagrant up")

    def to_json(self) -> dict[str, object]:
        """The worlds that can run, and the findings, as JSON values."""
        return {
            "worlds": {"virtual": True, "emulated": not self.lacks, "warp": self.warps},
            "findings": [asdict(finding) for finding in self.findings],
        }


def detect(spill: Path = Path("runs")) -> Machine:
    """Looks at this machine; changes nothing that stays.

    Args:
        spill: the folder for frames in flight that do not fit in memory; it need not exist yet.
    """
    kernel = machine_kernel.detect()
    return Machine(
        (
            *machine_resources.findings(spill),
            *machine_kernel.findings(kernel),
            *machine_programs.findings(kernel),
            machine_warp.finding(),
        )
    )
