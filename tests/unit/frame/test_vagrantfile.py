"""The virtual machine: Vagrant accepts its description, and provisioning is the same set-up as everywhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from frame import packages

from marsnet.worlds.images import package_names

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "Vagrantfile").read_text()


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
def test_vagrant_accepts_it(provider: str, tmp_path: Path) -> None:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed")
    env = {
        "VAGRANT_HOME": str(tmp_path / "home"),
        "VAGRANT_DOTFILE_PATH": str(tmp_path / "state"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": provider,
    }
    plugins = run("vagrant", "plugin", "list", **env).stdout
    usable = shutil.which("VBoxManage") if provider == "virtualbox" else "vagrant-libvirt" in plugins
    done = run("vagrant", "validate", *([] if usable else ["--ignore-provider"]), **env)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "validated successfully" in done.stdout


def test_ruby_parses_it() -> None:
    if shutil.which("ruby") is None:
        pytest.skip("ruby is not installed")
    assert run("ruby", "-c", "Vagrantfile").stdout == "Syntax OK\n"


def test_the_box_is_a_pinned_debian_12() -> None:
    assert 'config.vm.box = "debian/bookworm64"' in TEXT
    assert re.search(r'config\.vm\.box_version = "12\.\d{8}\.\d+"', TEXT)


def test_prometheus_and_grafana_are_forwarded_to_the_hosts_loopback() -> None:
    ports = re.findall(r'"forwarded_port", guest: (\d+), host: (\d+), host_ip: "([\d.]+)"', TEXT)
    assert ports == [("9090", "9090", "127.0.0.1"), ("3000", "3000", "127.0.0.1")]


def test_one_list_of_packages_makes_the_vagrant_machine_and_the_warp_guest() -> None:
    assert "sed 's/#.*//' /vagrant/services/warp/packages.txt" in TEXT
    listed = set(package_names(ROOT / "services" / "warp" / "packages.txt"))
    needed = {package.name for package in packages.for_labs()}
    # The guest's images are made outside, and it keeps no metrics.
    assert needed - listed == {"mmdebstrap", "prometheus"}
    assert "tests/integration/warp/self_check.yaml --world warp" in (ROOT / "Makefile").read_text()


def test_provisioning_is_the_makefiles_set_up() -> None:
    assert "make -C /vagrant setup" in TEXT
    assert re.search(r"^setup:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert 'config.vm.provider "virtualbox"' in TEXT
    assert 'config.vm.provider "libvirt"' in TEXT
