"""What the warp world is made of, without a guest: archives, images, results, and what is said of faults."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from marsnet.commands.warp import top
from marsnet.errors import EnvironmentLacksError, InputError, RunInvalidError
from marsnet.model.scenario import Scenario, load_scenario
from marsnet.runs.prepare import prepare
from marsnet.worlds.warp import machine, needs, recipe, snapshots, world
from marsnet.worlds.warp.archives import concatenate, pickled, to_initramfs, unpack, write_image, write_tar
from marsnet.worlds.warp.machine import MISSION_BYTES, Guest, Order
from marsnet.worlds.warp.snapshots import write_mission
from marsnet.worlds.warp.wakers import idle_seconds, python_programs, read_histogram
from marsnet.worlds.warp.world import with_files

HOUR = Path(__file__).parents[2] / "integration" / "warp" / "hour.yaml"


def test_an_archive_is_the_same_whenever_its_content_is(tmp_path: Path) -> None:
    def made(name: str) -> bytes:
        folder = tmp_path / name
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "script").write_text("x")
        (folder / "inner" / "script").chmod(0o755)
        (folder / "link").symlink_to("inner/script")
        os.utime(folder / "inner" / "script", (len(name), len(name)))
        target = tmp_path / f"{name}.tar"
        write_tar(target, {"opt/that": folder, "etc/order.json": b"{}"})
        return target.read_bytes()

    assert made("one") == made("another")
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == [
            "etc",
            "etc/order.json",
            "opt",
            "opt/that",
            "opt/that/inner",
            "opt/that/inner/script",
            "opt/that/link",
        ]
        assert archive.getmember("opt/that/inner/script").mode == 0o755
        assert archive.getmember("opt/that/link").linkname == "inner/script"


def test_an_image_names_layers_that_the_store_has_and_brings_the_others(tmp_path: Path) -> None:
    layers = []
    for name in ("base", "program"):
        write_tar(tmp_path / f"{name}.tar", {f"opt/{name}": name.encode()})
        layers.append(tmp_path / f"{name}.tar")
    write_image(tmp_path / "image.tar", "marsnet/node:test", layers, 1, {"Entrypoint": ["python3"]})
    with tarfile.open(tmp_path / "image.tar") as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        assert manifest["RepoTags"] == ["marsnet/node:test"]
        digests = [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}" for layer in layers]
        assert config["rootfs"]["diff_ids"] == digests
        assert [read(name) for name in manifest["Layers"]] == [b"", layers[1].read_bytes()]
        assert manifest["Config"] == hashlib.sha256(read(manifest["Config"])).hexdigest() + ".json"


def test_results_do_not_leave_the_run_folder(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "run.tar", "w") as archive:
        for name in ("nodes/rover/ledger.jsonl", "../outside", "/absolute"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"ok"))
        link = tarfile.TarInfo("nodes/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    target = tmp_path / "run"
    unpack(tmp_path / "run.tar", target)
    assert [str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()] == ["nodes/rover/ledger.jsonl"]
    assert not (tmp_path / "outside").exists()


@pytest.mark.skipif(shutil.which("bsdtar") is None, reason="bsdtar is not installed")
def test_initramfs_archives_may_follow_one_another(tmp_path: Path) -> None:
    pieces = []
    for name in ("first", "second"):
        write_tar(tmp_path / f"{name}.tar", {f"{name}/file": b"x" * 1000})
        to_initramfs(tmp_path / f"{name}.tar", tmp_path / f"{name}.cpio")
        pieces.append(tmp_path / f"{name}.cpio")
    concatenate(pieces, tmp_path / "whole")
    for piece in pieces:
        listed = subprocess.run(["bsdtar", "-tf", str(piece)], capture_output=True, text=True, check=True).stdout
        assert listed.split() == [f"{piece.stem}/", f"{piece.stem}/file"]
        assert piece.stat().st_size % 4 == 0
    assert (tmp_path / "whole").read_bytes() == b"".join(piece.read_bytes() for piece in pieces)


def order(folder: Path) -> Order:
    return Order(folder / "kernel", folder / "root", 64 << 20, folder, folder / "mission", ram=folder / "ram")


def guest_that(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Guest:
    """A guest whose QEMU is a shell script: `$channel` is where it speaks to. It grants all that is asked of it."""
    program = folder / "qemu-system-x86_64"
    program.write_text(
        f"""#!{sys.executable}
import socket, sys
fd = next(word.rpartition("=")[2] for word in sys.argv if word.startswith("socket,id=control,fd="))
control = socket.socket(fileno=int(fd))
control.sendall(b'{{"QMP": {{}}}}\\n' + 2 * b'{{"return": {{}}}}\\n')
import os
os.execv("/bin/sh", ["sh", "-c", {script!r}])
"""
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("channel", str(folder / "channel"))
    return Guest(order(folder))


def test_messages_and_files_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """{ echo '{"state": "up"}'; echo '{"file": "a.bin", "size": 5}'; printf '1\\n3\\n5';
        echo '{"end": true}'; } >$channel"""
    with guest_that(tmp_path, script, monkeypatch) as guest:
        told = list(guest.messages(tmp_path))
    assert told == [{"state": "up"}, {"file": "a.bin", "size": 5}, {"end": True}]
    assert (tmp_path / "a.bin").read_bytes() == b"1\n3\n5"


def test_a_guest_that_panics_is_an_invalid_run_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "".join(f"echo call {number};" for number in range(30))
    script = f"{{ echo 'Kernel panic - not syncing: out of memory'; {trace} }} >{tmp_path}/console.log"
    with (
        guest_that(tmp_path, script, monkeypatch) as guest,
        pytest.raises(
            RunInvalidError, match=r"ended before its run: Kernel panic - not .* \| call 29; to fix it: "
        ) as caught,
    ):
        list(guest.messages(tmp_path))
    assert caught.value.exit_code == 3


def test_a_guest_that_says_nothing_counts_as_hung_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PATIENCE", 0.2)
    with guest_that(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60", monkeypatch) as guest:
        with pytest.raises(RunInvalidError, match=r"has said nothing for 0\.2 s"):
            list(guest.messages(tmp_path))
        process = guest._process
    assert process is not None
    assert process.returncode == -9
    assert not (tmp_path / "channel").exists()


def test_without_qemu_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacksError, match="qemu-system-x86") as caught:
        Guest(order(tmp_path))
    assert caught.value.exit_code == 4


def test_a_guest_that_does_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "available_memory", lambda: 1 << 20)
    with pytest.raises(EnvironmentLacksError, match="64 MiB of memory, and 1 MiB are free"):
        guest_that(tmp_path, "", monkeypatch)


def test_files_of_a_scenario_are_brought_along(tmp_path: Path) -> None:
    for name in ("a.jpg", "day.csv", "one.py"):
        (tmp_path / name).write_text("0 s,1 kB\n")
    bundles = {"source": "mcc", "destination": "areo", "class": "bulk", "size": "1 kB", "lifetime": "1 h"}
    scenario = Scenario.model_validate(
        {
            "marsnet": "scenario/1",
            "name": "files",
            "topology": "unused.yaml",
            "start": "2026-10-01T00:00:00Z",
            "duration": "1 h",
            "traffic": [
                bundles | {"name": "file", "file": tmp_path / "a.jpg"},
                {"name": "trace", "source": "mcc", "class": "bulk", "lifetime": "1 h", "trace": tmp_path / "day.csv"}
                | {"destination": "areo"},
                bundles | {"name": "plain", "every": "1 min"},
            ],
            "programs": [{"name": "p", "node": "mcc", "command": ["true"], "files": [tmp_path / "one.py"]}],
            "requirements": [{"kind": "nothing_lost"}],
        }
    )
    inside, files = with_files(scenario)
    named = [inside.traffic[0].file, inside.traffic[1].trace, *inside.programs[0].files]
    assert [str(path) for path in named] == [f"/{name}" for name in files]
    assert list(files.values()) == [tmp_path / "a.jpg", tmp_path / "day.csv", tmp_path / "one.py"]
    assert inside.traffic[2] == scenario.traffic[2]


def test_a_pickle_does_not_depend_on_the_process() -> None:
    code = (
        "import hashlib, sys; from marsnet.model.scenario import Scenario; "
        "from marsnet.worlds.warp.archives import pickled; "
        "made = Scenario.model_validate({'marsnet': 'scenario/1', 'name': 'x', 'topology': 'y', "
        "'start': '2026-10-01T00:00:00Z', 'duration': '1 h', "
        "'programs': [{'name': 'p', 'node': 'n', 'command': ['true']}]}); "
        "print(hashlib.sha256(pickled((made, frozenset(('a', 'b', 'c'))))).hexdigest())"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(hashes) == 1
    value = {"a": {1, 2}, "b": (frozenset("xyz"), [1.5, "s"])}
    assert pickle.loads(pickled(value)) == value  # noqa: S301 - made above
    one, other = "".join(["la", "nder"]), "".join(["la", "nder"])
    assert one is not other
    assert pickled((one, {"a": (one, 2.5)})) == pickled((one, {"a": (other, 2.5)}))


def test_a_pickle_does_not_depend_on_the_way_that_a_run_has_come(tmp_path: Path) -> None:
    spec = prepare(HOUR, tmp_path, emulated=True, rate=1.0)
    parts = {name: pickle.dumps(getattr(spec, name)) for name in ("scenario", "topology", "plan")}
    elsewhere = replace(spec, **{name: pickle.loads(part) for name, part in parts.items()})  # noqa: S301 - made above
    assert elsewhere == spec
    assert pickled(elsewhere) == pickled(spec)
    assert pickle.loads(pickled(spec)) == spec  # noqa: S301 - made above


def test_a_guest_that_cannot_be_made_leaves_its_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "made"
    scratch.mkdir()
    monkeypatch.setattr(recipe, "place", lambda: tmp_path / "warp")
    guest_that(scratch, f"echo what came last >{scratch}/console.log", monkeypatch)
    monkeypatch.setattr(needs, "available_memory", lambda: 1 << 40)
    with pytest.raises(RunInvalidError, match="what came last"):
        snapshots._make(order(scratch), scratch, lambda _: None)
    assert (tmp_path / "warp" / "failed-console.log").read_text() == "what came last\n"


def test_what_a_killed_maker_has_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "cache", lambda: tmp_path)
    (tmp_path / "making-abc").mkdir()
    (tmp_path / "making-abc" / "ram").touch()
    with snapshots._one_maker():
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_as_many_guests_run_at_once_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, topology = load_scenario(Path(__file__).parents[3] / "scenarios" / "first_light.yaml")
    need = world.guest_memory(topology)
    pair = topology.model_copy(update={"nodes": dict(list(topology.nodes.items())[:2])})
    assert world.guest_memory(pair) == 3 << 30
    assert need % (1 << 30) == 0
    monkeypatch.setattr(world, "available_memory", lambda: 3 * need - 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert world.guests_at_once([topology], None) == 2
    assert world.guests_at_once([topology], 1) == 1
    with pytest.raises(EnvironmentLacksError, match="give --jobs 2"):
        world.guests_at_once([topology], 3)


def test_histograms_of_the_kernel_are_read(tmp_path: Path) -> None:
    text = """
{ function: [ffffffff8112] tick_sched_timer                    } hitcount:        669
{ comm: kcompactd0                                         } hitcount:        196
"""
    assert read_histogram(text, {}) == [("tick_sched_timer", 669), ("kcompactd0", 196)]
    text = """
{ comm: ovs-vswitchd    , pid:         41 } hitcount:         10  runtime:    5000123
{ comm: python3         , pid:         42 } hitcount:         10  runtime:         20
{ comm: python3         , pid:         43 } hitcount:         10  runtime:         30
"""
    for process, words in ((42, ["-m", "marsnet.links.daemon", "--socket"]), (44, ["/x/launcher.py"])):
        folder = tmp_path / str(process) / "task" / str(process)
        folder.mkdir(parents=True)
        (folder / "cmdline").write_text("\0".join(["/usr/bin/python3.11", *words]))
    programs = python_programs(tmp_path)
    assert programs == {42: "python3 marsnet.links.daemon", 44: "python3 launcher.py"}
    named = [("ovs-vswitchd", 5000123), ("python3", 30), ("python3 marsnet.links.daemon", 20)]
    assert read_histogram(text, programs) == named
    assert idle_seconds("cpu  100 0 50 123456 7 0 0 0 0 0\ncpu0 1 2 3 4\n") == 1234.56


def test_packages_are_the_same_wherever_they_were_installed(tmp_path: Path) -> None:
    for name, prefix in (("one", "/home/a"), ("other", "/tmp/b")):
        folder = tmp_path / name
        for path in ("bin", "that/tests/inner", "that-1.0.dist-info"):
            (folder / path).mkdir(parents=True)
        (folder / "bin" / "tool").write_text(f"#!{prefix}/bin/python")
        (folder / "that" / "__init__.py").write_text("")
        for file in ("RECORD", "WHEEL", "METADATA"):
            (folder / "that-1.0.dist-info" / file).write_text("Name: that" if file == "METADATA" else prefix)
        recipe._strip(folder)
        write_tar(tmp_path / f"{name}.tar", {"opt": folder})
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert {name.rpartition("/")[2] for name in archive.getnames() if "." in name} >= {"__init__.py", "METADATA"}


def test_a_root_is_known_by_its_content(tmp_path: Path) -> None:
    root = tmp_path / "initramfs-abc.cpio"
    root.write_bytes(b"content")
    told = hashlib.sha256(b"content").hexdigest()
    assert recipe.digest(root) == told
    root.write_bytes(b"")
    assert recipe.digest(root) == told, "it is read once"


def test_a_mission_is_what_the_device_begins_with(tmp_path: Path) -> None:
    device = write_mission(tmp_path, {"mission/order.json": b"{}"})
    with device.open("rb") as file:
        size = int.from_bytes(file.read(8), "big")
        content = io.BytesIO(file.read(size))
    with tarfile.open(fileobj=content) as archive:
        assert archive.getnames() == ["mission", "mission/order.json"]
    assert device.stat().st_size == MISSION_BYTES
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", MISSION_BYTES)
    with pytest.raises(EnvironmentLacksError, match="256 MiB, and the guest takes 256 MiB"):
        write_mission(tmp_path, {"mission/large": tmp_path / "large"})


def test_top_shows_who_woke_a_guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"sched/sched_wakeup": [["ovs-vswitchd", 5000]], "sched/sched_stat_runtime": [["python3", 12 * 10**9]]}
    parts = {
        "setup": {"seconds": 60.0, "busy": 59.0, "counts": {"sched/sched_wakeup": [["dockerd", 7]]}},
        "mission": {"seconds": 1000.0, "busy": 21.5, "counts": counts},
    }
    (tmp_path / "wakers.json").write_text(json.dumps(parts))
    top(tmp_path)
    told = capsys.readouterr().out
    for words in ("1,000 s of the guest, 21.5 s of them busy", "ovs-vswitchd", "5,000", "12.00 s", "12 ms"):
        assert words in told
    assert "dockerd" not in told
    top(tmp_path, setup=True)
    assert "dockerd" in capsys.readouterr().out
    with pytest.raises(InputError, match="run of the warp world"):
        top(tmp_path / "none")
