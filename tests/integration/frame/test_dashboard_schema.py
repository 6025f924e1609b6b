"""The dashboard against Grafana's own types, by the TypeScript compiler."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

DASHBOARD = Path(__file__).resolve().parents[3] / "services/grafana/dashboards/run.json"
PACKAGES = ("@grafana/schema@11.2.0", "typescript@5.5.4")
OPTIONS = {"timeseries": "TimeSeries", "stat": "Stat", "state-timeline": "StateTimeline"}
WITH_FIELDS = {"timeseries", "state-timeline"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None or shutil.which("node") is None, reason="npm is not installed"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", *PACKAGES],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"npm could not install {' and '.join(PACKAGES)}")
    return folder


def typescript(dashboard: dict[str, object]) -> str:
    """A program that is well typed exactly when dashboard, panel options and field options are Grafana's."""
    lines = ['import type { Dashboard } from "@grafana/schema";']
    for kind, name in OPTIONS.items():
        place = f"@grafana/schema/dist/esm/raw/composable/{kind.replace('-', '')}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f'import type * as {name} from "{place}";')
    # JSON has text where the schema has enumerations.
    lines.append("type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;")
    lines.append(f"export const dashboard: Json<Dashboard> = {json.dumps(dashboard)};")
    panels = dashboard["panels"]
    assert isinstance(panels, list)
    for panel in panels:
        if panel["type"] == "row":
            continue
        name, number = OPTIONS[panel["type"]], panel["id"]
        lines.append(f"export const options{number}: Json<{name}.Options> = {json.dumps(panel['options'])};")
        if panel["type"] in WITH_FIELDS:
            custom = json.dumps(panel["fieldConfig"]["defaults"]["custom"])
            lines.append(f"export const fields{number}: Json<{name}.FieldConfig> = {custom};")
    return "\n".join(lines) + "\n"


def compile_strictly(project: Path, program: str) -> str:
    (project / "check.ts").write_text(program)
    compiler = project / "node_modules" / "typescript" / "bin" / "tsc"
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node"]
    done = subprocess.run(
        ["node", compiler, *flags, "check.ts"], cwd=project, capture_output=True, text=True, timeout=90, check=False
    )
    return done.stdout


def test_dashboard_is_what_grafana_expects(project: Path) -> None:
    assert compile_strictly(project, typescript(json.loads(DASHBOARD.read_text()))) == ""


def test_the_check_sees_mistakes(project: Path) -> None:
    text = DASHBOARD.read_text().replace('"mode": "absolute"', '"mode": "relative"')
    text = text.replace('"colorMode"', '"colourMode"').replace('"fillOpacity"', '"fillopacity"')
    told = compile_strictly(project, typescript(json.loads(text)))
    assert "relative" in told
    assert "colourMode" in told
    assert "fillopacity" in told
