"""Every command that the documents show is run by a test, or says why it cannot be; links lead somewhere."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from marsnet import cli

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLEET_SOL = 'marsnet plan topologies/legacy_fleet.yaml --start 2026-10-01 --duration "1 sol"'

# Run below, in this order, in one folder: command, and the files that it leaves.
RUN_HERE: dict[str, tuple[str, ...]] = {
    FLEET_SOL: (),
    f"{FLEET_SOL} -o plan.json": ("plan.json",),
    "marsnet plan plan.json -o plan.ionrc": ("plan.ionrc",),
    "marsnet plan plan.ionrc --plot plan.html": ("plan.html",),
    "marsnet plan contacts.json --from hdtn --epoch 2026-10-01T00:00:00Z -o plan.csv": ("plan.csv",),
    ".venv/bin/marsnet doctor": (),
}
BY_NAME = "tests/integration/runs/test_run_standing.py::test_nodes_are_pinged_and_traced_by_their_names"
BY_URL = "tests/unit/dtn/test_apps_nodes.py::test_the_commands_ping_trace_send_and_recv"
# Run by another test, which is named, or left out for a reason.
RUN_ELSEWHERE = {
    "marsnet validate topologies/mtn_mix.yaml --set low=4 --set areostationary=0": "tests/unit/commands/"
    "test_settings.py::test_validate_and_plan_take_settings",
    ".venv/bin/marsnet run scenarios/first_light.yaml --world virtual": "tests/unit/worlds/test_virtual_world.py::"
    "test_first_light_passes_and_without_its_fault_delivers_the_same_sooner",
    "marsnet campaign scenarios/first_light.yaml --vary seed=1..50 --jobs 4": "tests/unit/runs/test_campaign.py::"
    "test_a_sweep_with_a_killed_worker_is_complete_and_equals_the_serial_result",
    "marsnet campaign scenarios/architectures.yaml --vary architecture=areostationary,low,hybrid": "tests/unit/runs/"
    "test_shipped_scenarios.py::test_architectures_differ_as_the_page_says",
    "marsnet compare runs/virtual runs/emulated": "tests/unit/runs/test_compare.py::"
    "test_the_command_tells_where_runs_diverge",
    "promtool tsdb create-blocks-from openmetrics runs/latest/metrics.om prometheus-data": "tests/unit/runs/"
    "test_openmetrics.py::test_queries_on_mission_time_return_what_the_ledger_says",
    "sudo python -m marsnet.links.daemon --socket /run/line.sock --ram '512 MiB' --spill-dir /var/tmp --metrics "
    "127.0.0.1:9464": "tests/integration/links/test_delay_line.py::",
    "sudo .venv/bin/marsnet run scenarios/first_light.yaml --keep --prometheus 127.0.0.1:9090": "tests/integration/"
    "runs/test_run_verdict.py::test_prometheus_scraped_every_node_the_links_and_both_controllers",
    "marsnet ping rover mcc": BY_NAME,
    "marsnet trace rover mcc": BY_NAME,
    "marsnet send rover mcc.20 report.pdf": BY_NAME,
    "marsnet recv mcc 20 -o report.pdf": BY_NAME,
    "marsnet ping http://127.0.0.1:8080 ipn:3.7": BY_URL,
    "marsnet node --config earth.yaml": "tests/unit/dtn/test_node_page.py::test_the_nodes_of_the_page_answer",
    "marsnet node --config mars.yaml": "tests/unit/dtn/test_node_page.py::test_the_nodes_of_the_page_answer",
    "marsnet ping http://127.0.0.1:8101 ipn:2.7": "tests/unit/dtn/test_node_page.py::test_the_nodes_of_the_page_answer",
    "marsnet run scenarios/first_light.yaml --world warp": "it takes more than an hour; a shorter one: tests/"
    "integration/warp/test_warp_guest.py::test_the_same_seed_gives_the_same_ledger",
    "marsnet campaign scenarios/first_light.yaml --world warp --vary seed=1..4 --jobs 2": "hours; a shorter one: tests/"
    "integration/warp/test_warp_guest.py::test_the_same_seed_gives_the_same_ledger",
    "marsnet run scenarios/foreign_software/programs.yaml --world warp": "tests/integration/warp/"
    "test_foreign_software.py::test_programs_of_others_meet_true_light_time",
    "marsnet warp exec scenarios/foreign_software/network.yaml --start 2026-10-01 --node mars -- "
    "ping -c 5 -W 3000 earth": "tests/integration/warp/test_foreign_software.py::"
    "test_one_program_from_the_command_line",
    'marsnet warp exec scenarios/first_light.yaml --node habitat --at "11 h" --debian mtr-tiny -- '
    "mtr --report areo": "half a day of nine nodes; as the one before, and tests/unit/commands/test_warp_cmd.py",
    'marsnet warp debug runs/latest --at "8 min"': "tests/integration/warp/test_looking_in.py::"
    "test_a_run_is_the_same_up_to_the_moment",
    "marsnet run tests/integration/warp/daemon.yaml --world warp": "tests/integration/warp/test_warp_daemons.py::"
    "test_bundles_reach_it_and_come_from_it_at_true_light_time",
    "marsnet run scenarios/first_light.yaml --world warp --prometheus 127.0.0.1:9090": "hours; a shorter one: tests/"
    "integration/warp/test_warp_daemons.py::test_prometheus_has_scraped_all_of_it_on_mission_time",
    "prometheus --config.file=/dev/null --storage.tsdb.path=runs/latest/prometheus/data "
    "--storage.tsdb.retention.time=100y": "tests/integration/warp/test_warp_daemons.py::"
    "test_prometheus_has_scraped_all_of_it_on_mission_time",
    "marsnet warp top runs/latest": "tests/unit/worlds/test_warp_parts.py::test_top_shows_who_woke_a_guest",
    "sudo make test": "it runs this test",
    "make test": "it runs this test",
    "make quick": "it runs this test",
    "make test-vm": "tests/integration/warp/test_foreign_software.py::test_the_root_checks_itself",
    "make setup-unit": "make test begins with more than that",
    "make setup-warp": "make test-warp begins with it",
    "sudo make demo": "tests/integration/runs/test_demo.py::test_the_demo_passes",
    "make lint": "a part of make test",
    "make compiled": "set-up runs what it runs",
    "make format": "it would change the files under test",
    "make bench": "measurements take minutes",
    "sudo apt-get install git make python3": "it installs packages",
    "git clone <this repository> marsnet && cd marsnet": "it is this repository",
    "docker build -t marsnet/grafana services/grafana": "it needs an image registry; the configuration: "
    "tests/integration/frame/test_dashboard_schema.py::test_dashboard_is_what_grafana_expects",
    "docker run --rm --network host -e MARSNET_PROMETHEUS=http://127.0.0.1:9090 marsnet/grafana": "as the build",
    "vagrant up": "no box can be downloaded; the Vagrantfile: tests/unit/frame/test_vagrantfile.py::"
    "test_vagrant_accepts_it",
    "vagrant ssh -c 'cd /vagrant && sudo make demo'": "as vagrant up",
    "vagrant ssh -c 'cd /vagrant && tar c -h runs/latest' | tar x": "as vagrant up",
    "vagrant ssh -c 'cd /vagrant && sudo .venv/bin/marsnet run scenarios/first_light.yaml --prometheus 0.0.0.0:9090'": (
        "as vagrant up"
    ),
}
_PROGRAMS = {
    "sudo",
    "make",
    "git",
    "marsnet",
    "vagrant",
    "docker",
    "python",
    "python3",
    "pip",
    "sh",
    "apt-get",
    "cd",
    "promtool",
}
_PROGRAM = re.compile(r"(?:\S*/)?([a-z0-9.-]+)(?: |$)")


def commands(page: Path) -> list[str]:
    """The commands in the fenced blocks of a page, without prompt and comment."""
    found = []
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        lines = body.splitlines()
        if language not in {"", "console", "sh", "bash"} or not lines:
            continue
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        first = _PROGRAM.match(lines[0])
        if not prompted and (first is None or first[1] not in _PROGRAMS):
            continue  # a drawing
        # Without a comment, or an explanation set off by several blanks as in a list.
        found += [re.split(r"\s+#\s|\s{3,}", line)[0].strip() for line in prompted or lines]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_is_run_somewhere(page: Path) -> None:
    assert [line for line in commands(page) if line not in RUN_HERE and line not in RUN_ELSEWHERE] == []


def test_nothing_is_listed_that_no_page_shows() -> None:
    shown = {line for page in PAGES for line in commands(page)}
    assert shown == {*RUN_HERE, *RUN_ELSEWHERE}


@pytest.mark.parametrize("command", [c for c, where in RUN_ELSEWHERE.items() if "::" in where])
def test_the_test_that_runs_it_exists(command: str) -> None:
    file, _, name = RUN_ELSEWHERE[command].rpartition("; ")[2].rpartition(" ")[2].partition("::")
    assert f"def {name}" in (ROOT / file).read_text()


HDTN = """{"contacts": [{"contact": 0, "source": 10, "dest": 1, "startTime": 0, "endTime": 2000,
"rateBitsPerSec": 100000, "owlt": 60}]}"""


@pytest.mark.slow
def test_the_commands_of_the_pages_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "topologies").symlink_to(ROOT / "topologies")
    (tmp_path / "contacts.json").write_text(HDTN)
    monkeypatch.chdir(tmp_path)
    for command, files in RUN_HERE.items():
        monkeypatch.setattr(sys, "argv", ["marsnet", *shlex.split(command)[1:]])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        # doctor tells whether the emulated world can run, which depends on the machine.
        assert ended.value.code in ({0, 4} if "doctor" in command else {0}), (command, told.err)
        assert told.out or files
        for file in files:
            assert (tmp_path / file).stat().st_size > 0


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere_and_no_machine_is_named(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            place = (page.parent / file).resolve() if file else page
            assert place.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}, target
    # Paths of one machine, and hosts that serve packages or images.
    assert re.findall(r"(?<![\w.])/(?:work|home|root|tmp)/\S+", text) == []
    assert re.findall(r"pypi\.org|pythonhosted|deb\.debian\.org|docker\.io/|ghcr\.io|npmjs|quay\.io", text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_folders_and_files_named_in_the_text_exist(page: Path) -> None:
    rooms = "marsnet|docs|tests|scripts|services|topologies|scenarios|schemas|controllers"
    named = set(re.findall(rf"`((?:{rooms})/[\w./-]+)`", page.read_text()))
    # Images, and a placeholder.
    images = {f"marsnet/{folder.name}" for folder in (ROOT / "services").iterdir()}
    missing = [name for name in named - images if "ROOM" not in name and not (ROOT / name).exists()]
    assert missing == []
