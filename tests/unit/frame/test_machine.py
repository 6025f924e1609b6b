"""What is told about a machine, from made-up machines and from this one."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from docker.errors import DockerException
from typer.testing import CliRunner

from marsnet.commands.doctor import doctor
from marsnet.errors import EnvironmentLacksError
from marsnet.worlds import machine_kernel, machine_programs, machine_resources
from marsnet.worlds.machine import Machine, detect
from marsnet.worlds.machine_finding import Finding, judge
from marsnet.worlds.machine_kernel import Kernel, find_module

EVERYTHING = Kernel(
    release="6.1.0",
    namespace="network",
    realtime=True,
    veth="",
    netem="",
    netem_module="built in",
    openvswitch="loaded",
    tun=True,
    capabilities=(1 << 41) - 1,
    clock_source="tsc",
)


def altered(**changes: Any) -> Kernel:
    fields = {name: getattr(EVERYTHING, name) for name in Kernel.__dataclass_fields__}
    return Kernel(**(fields | changes))


def by_name(findings: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "modules.dep").write_text(
        "kernel/net/sched/sch_netem.ko.xz:\nkernel/net/openvswitch/openvswitch.ko: kernel/net/nsh/nsh.ko\n"
    )
    (folder / "modules.builtin").write_text("kernel/drivers/net/veth.ko\nkernel/net/sched/sch-fq.ko\n")
    return folder


def test_module_is_found_where_the_kernel_keeps_it(modules: Path, tmp_path: Path) -> None:
    sysfs = tmp_path / "sys"
    (sysfs / "openvswitch").mkdir(parents=True)
    (sysfs / "openvswitch" / "refcnt").write_text("0")
    (sysfs / "tun").mkdir()
    assert find_module("openvswitch", modules, sysfs) == "loaded"
    assert find_module("tun", modules, sysfs) == "built in"
    assert find_module("veth", modules, sysfs) == "built in"
    assert find_module("sch_fq", modules, sysfs) == "built in", "file names may carry dashes"
    assert find_module("sch_netem", modules, sysfs) == "loadable"
    assert find_module("nsh", modules, sysfs) == "absent", "a dependency named after the colon is no entry"
    assert find_module("sch_netem", tmp_path / "nowhere", sysfs) == "absent"


@pytest.mark.parametrize(
    ("kernel", "name", "state"),
    [
        (EVERYTHING, "netem", "ok"),
        (altered(netem="ENOENT", netem_module="absent"), "netem", "limited"),
        (altered(netem="", netem_module="loadable"), "netem", "ok"),
        (altered(capabilities=0), "privileges", "missing"),
        (altered(capabilities=EVERYTHING.capabilities & ~(1 << machine_kernel.NET_ADMIN)), "privileges", "missing"),
        (altered(namespace=""), "network namespaces", "missing"),
        (altered(veth="EOPNOTSUPP"), "veth", "missing"),
        (altered(realtime=False), "real-time scheduling", "limited"),
        (altered(clock_source="acpi_pm"), "clock source", "limited"),
    ],
)
def test_kernel_findings(kernel: Kernel, name: str, state: str) -> None:
    assert by_name(machine_kernel.findings(kernel))[name].state == state


def test_a_plain_kernel_has_nothing_to_mend() -> None:
    assert [finding.name for finding in machine_kernel.findings(EVERYTHING) if finding.fix] == []


def test_memory_is_what_the_control_group_leaves(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 4000 kB\n")
    assert machine_resources.available_memory(meminfo, tmp_path) == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("123\n")
    assert machine_resources.available_memory(meminfo, tmp_path) == 4000 * 1024
    (tmp_path / "memory.max").write_text("2000000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert machine_resources.available_memory(meminfo, tmp_path) == 1_500_000


def test_spill_is_looked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    assert machine_resources.nearest_existing(tmp_path / "runs" / "deep") == tmp_path
    machine_resources.writes_directly(tmp_path)
    assert list(tmp_path.iterdir()) == []


class FakeDocker:
    """A client whose daemon answers, or fails in a given way."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure

    def version(self) -> dict[str, str]:
        if self.failure:
            raise DockerException(self.failure)
        return {"Version": "20.10.24", "ApiVersion": "1.41"}


def test_docker_that_answers() -> None:
    assert machine_programs.docker_finding(FakeDocker()) == judge("docker", True, "20.10.24, API 1.41", required=True)


def test_docker_that_refuses_says_who_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_programs, "find", lambda *_: "/usr/sbin/dockerd")
    finding = machine_programs.docker_finding(FakeDocker("Permission denied"))
    assert (finding.state, finding.value) == ("missing", "this user may not speak to it")


def test_docker_without_a_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.setattr(machine_programs, "find", lambda *_: "/usr/sbin/dockerd")
    finding = machine_programs.docker_finding()
    assert (finding.state, finding.value) == ("missing", "installed, and no daemon answers")
    assert finding.fix == "sudo make setup"
    monkeypatch.setattr(machine_programs, "find", lambda *_: None)
    assert machine_programs.docker_finding().value == "not installed"


def test_machine_code_of_other_sources_is_optional_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marsnet.compiled.files", list)
    finding = by_name(machine_programs.findings(EVERYTHING))["machine code"]
    assert (finding.state, finding.required, finding.fix) == ("limited", False, "make compiled")
    monkeypatch.setattr("marsnet.compiled.files", lambda: [Path("library.so")])
    assert by_name(machine_programs.findings(EVERYTHING))["machine code"].state == "ok"


@pytest.mark.parametrize(
    ("kernel", "state", "words"),
    [
        (EVERYTHING, "ok", "kernel datapath (loaded)"),
        (altered(openvswitch="absent"), "ok", "userspace datapath"),
        (altered(openvswitch="absent", tun=False), "missing", "neither"),
    ],
)
def test_switches_say_which_datapath(kernel: Kernel, state: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_programs, "find", lambda *names: f"/usr/sbin/{names[0]}")
    finding = by_name(machine_programs.findings(kernel))["open vswitch"]
    assert finding.state == state
    assert words in finding.value


def test_version_is_the_number_in_the_first_line(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\necho 'TShark (Wireshark) 4.0.17 (Git v4.0.17 packaged as 4.0.17-0+deb12u3).'\necho 9.9\n"
    )
    program.chmod(0o755)
    assert machine_programs.version(str(program)) == "4.0.17"
    assert machine_programs.version(str(tmp_path / "absent")) == ""


def test_lacks_are_named_with_each_fix_once() -> None:
    machine = Machine(
        (
            judge("docker", False, "not installed", required=True, fix="sudo make setup"),
            judge("mininet", False, "not installed", required=True, fix="sudo make setup"),
            judge("netem", False, "not in this kernel", fix="vagrant up"),
        )
    )
    assert [finding.name for finding in machine.lacks] == ["docker", "mininet"]
    with pytest.raises(EnvironmentLacksError) as caught:
        machine.require_emulation()
    assert str(caught.value) == ("missing: docker (not installed), mininet (not installed); to fix it: sudo make setup")


def run_doctor(machine: Machine, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr("marsnet.commands.doctor.detect", lambda _: machine)
    app = typer.Typer()
    app.command()(doctor)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


def test_doctor_exits_with_4_when_something_needed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine((judge("docker", False, "not installed", required=True, fix="sudo make setup"),))
    result = run_doctor(machine, monkeypatch)
    assert result.exit_code == 4
    assert "docker (needed): sudo make setup" in result.output
    assert "The emulated world cannot run here yet." in result.output


def test_doctor_exits_with_0_when_only_extras_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine((judge("netem", False, "not in this kernel", fix="vagrant up"),))
    result = run_doctor(machine, monkeypatch)
    assert result.exit_code == 0
    assert "netem (optional): vagrant up" in result.output


def test_doctor_prints_one_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine((judge("cores", False, "1"), judge("docker", False, "not installed", required=True, fix="x")))
    result = run_doctor(machine, monkeypatch, "--json")
    told = json.loads(result.output)
    assert told["worlds"] == {"virtual": True, "emulated": False, "warp": False}
    assert told["findings"][0] == {"name": "cores", "state": "limited", "value": "1", "required": False, "fix": ""}
    assert result.exit_code == 4


def test_looking_at_this_machine_changes_nothing(tmp_path: Path) -> None:
    def traces() -> list[Path]:
        places = (Path("/sys/class/net"), Path("/sys/module"), tmp_path)
        names = ("probe*", "sch_netem", "openvswitch", "runs*")
        return sorted(path for place in places for name in names for path in place.glob(name))

    before = traces()
    machine_kernel.detect.cache_clear()
    machine = detect(tmp_path / "runs")
    assert traces() == before
    assert len(machine.findings) == len({finding.name for finding in machine.findings}) > 15
    assert all(finding.value for finding in machine.findings)
    assert all(finding.fix for finding in machine.lacks)
