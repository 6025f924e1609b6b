"""Scenarios driven by a Python script: load or construct, override, run, look at what came out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from marsnet.errors import InputError
from marsnet.model.scenario import Scenario as Content
from marsnet.model.scenario import check_seed, load_scenario
from marsnet.model.topology import Topology
from marsnet.plan.files import write_plan
from marsnet.plan.types import ContactPlan
from marsnet.runs.execute import Run, World, perform, write_files
from marsnet.runs.finished import PLAN
from marsnet.runs.folder import make_run_folder
from marsnet.runs.prepare import contact_plan, prepare
from marsnet.worlds.spec import EmulatedOptions


@dataclass(frozen=True, repr=False)
class Scenario:
    """A scenario with what is to be different this time. Every override gives a new one.

    Attributes:
        path: the scenario file.
        content: what it says, with the parameters that are set.
        topology: the network, likewise.
        seed: of every random draw.
        parameters: those that are set, by name.
    """

    path: Path
    content: Content
    topology: Topology
    seed: int
    parameters: Mapping[str, object] = field(default_factory=dict)
    _faults: bool = True
    _planned: list[ContactPlan] = field(default_factory=list, compare=False)
    _keep: tempfile.TemporaryDirectory[str] | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<Scenario {self.name}, seed {self.seed}, {dict(self.parameters)}>"

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read a scenario file.

        Raises:
            InputError: with file, line, value and remedy.
        """
        content, topology = load_scenario(Path(path))
        return cls(Path(path), content, topology, content.seed)

    @classmethod
    def of(cls, content: Mapping[str, Any], folder: str | Path = ".") -> Scenario:
        """A scenario out of what its file would say; the topology's path is relative to `folder`.

        Raises:
            InputError: naming the line of the file that would say it.
        """
        if not isinstance(content.get("topology"), str | Path):
            raise InputError("the scenario names no topology", remedy="give 'topology', a path")
        keep = tempfile.TemporaryDirectory(prefix="marsnet-scenario-")
        path = Path(keep.name) / f"{content.get('name', 'scenario')}.yaml"
        topology = (Path(folder) / str(content["topology"])).resolve()
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump({**content, "topology": str(topology)}, file)
        loaded, network = load_scenario(path)
        return cls(path, loaded, network, loaded.seed, _keep=keep)

    @property
    def name(self) -> str:
        """As the file says."""
        return self.content.name

    def with_(self, *, seed: int | None = None, **parameters: object) -> Scenario:
        """The same with another seed, or with other values of parameters that the file declares.

        Raises:
            InputError: a parameter that it does not declare, or a value or a seed that does not fit.
        """
        changed = replace(self, seed=self.seed if seed is None else check_seed(seed))
        if not parameters:
            return changed
        together = {**self.parameters, **parameters}
        content, topology = load_scenario(self.path, together)
        if seed is None and self.seed == self.content.seed:
            changed = replace(changed, seed=content.seed)
        return replace(changed, content=content, topology=topology, parameters=together, _planned=[])

    def without_faults(self) -> Scenario:
        """The same without its faults."""
        return replace(self, _faults=False)

    def run(
        self,
        world: World = "virtual",
        *,
        rate: float | None = None,
        force_rate: bool = False,
        output: str | Path | None = None,
        options: EmulatedOptions | None = None,
    ) -> Run:
        """Run it.

        The contact plan is computed once for a scenario and what is made of it by another seed.

        Args:
            world: `virtual` or `emulated`.
            rate: mission seconds per host second in the emulated world, in place of the file's.
            force_rate: also where this machine cannot hold it.
            output: folder in which a folder for this run is made; without it the run leaves no files.
            options: how the emulated world is set up.

        Raises:
            MarsnetError: bad input, or the machine lacks something. A run that failed is returned, not raised.
        """
        if output is not None:
            return self._run(make_run_folder(Path(output), self.name), world, rate, force_rate, options, files=True)
        with tempfile.TemporaryDirectory(prefix="marsnet-run-") as folder:
            return self._run(Path(folder), world, rate, force_rate, options, files=False)

    def _run(
        self,
        folder: Path,
        world: World,
        rate: float | None,
        force_rate: bool,
        options: EmulatedOptions | None,
        *,
        files: bool,
    ) -> Run:
        if not self._planned:
            # As it is without faults: what they announce depends on the seed.
            self._planned.append(contact_plan(self.content, self.topology, self.path))
        spec = prepare(
            self.path,
            folder,
            emulated=world == "emulated",
            rate=rate,
            force_rate=force_rate,
            seed=self.seed,
            without_faults=not self._faults,
            settings=self.parameters,
            plan=self._planned[0],
        )
        if files:
            write_plan(spec.plan, folder / PLAN)
        finished = perform(spec, world, options)
        if files:
            write_files(finished)
        return finished
