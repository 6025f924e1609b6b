"""pytest fixtures for scenarios: `marsnet_scenario` loads one, `marsnet_run` runs one.

pytest finds them by itself where marsnet is installed (entry point `pytest11`). Nothing of marsnet is imported until a
test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from marsnet.runs.execute import Run
    from marsnet.runs.scripted import Scenario


class Runner(Protocol):
    """Runs a scenario with another seed or parameters."""

    def __call__(self, scenario: str | Path | Scenario, *, seed: int | None = None, **parameters: object) -> Run:
        """Load it, where a path is given, and run it in the world that `--marsnet-world` names."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line."""
    group = parser.getgroup("marsnet", "scenarios of marsnet")
    group.addoption(
        "--marsnet-world",
        choices=("virtual", "emulated"),
        default="virtual",
        help="where marsnet_run runs scenarios",
    )
    group.addoption(
        "--marsnet-output",
        default=None,
        metavar="DIR",
        help="keep the folder of each run (report, ledger, metrics) in DIR",
    )


@pytest.fixture
def marsnet_scenario(request: pytest.FixtureRequest) -> Callable[[str | Path], Scenario]:
    """Loads a scenario; a relative path that does not exist here is looked for beside the test's file, too."""
    from marsnet.runs.scripted import Scenario as Loaded  # noqa: PLC0415  (keeps the plugin light)

    def load(path: str | Path) -> Scenario:
        beside = request.path.parent / path
        return Loaded.load(beside if beside.exists() and not Path(path).exists() else path)

    return load


@pytest.fixture
def marsnet_run(request: pytest.FixtureRequest, marsnet_scenario: Callable[[str | Path], Scenario]) -> Runner:
    """Runs a scenario; the verdict of each run is shown where the test fails."""
    world: Any = request.config.getoption("--marsnet-world")
    output = request.config.getoption("--marsnet-output")

    def run(scenario: str | Path | Scenario, *, seed: int | None = None, **parameters: object) -> Run:
        loaded = marsnet_scenario(scenario) if isinstance(scenario, str | Path) else scenario
        finished = loaded.with_(seed=seed, **parameters).run(world, output=output)
        where = f"\n{finished.spec.folder}" if output is not None else ""
        request.node.add_report_section(
            "call", f"marsnet: {loaded.name}, seed {finished.spec.seed}", finished.told() + where
        )
        return finished

    return run
