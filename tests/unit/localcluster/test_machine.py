import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from localcluster import machine
from localcluster.errors import ClusterError
from tests.unit.test_commands_end import ROOT, kar


def refused(check: Callable[[], object]) -> str:
    """What a refused machine's user reads; it always names what works there."""
    with pytest.raises(ClusterError) as caught:
        check()
    told = str(caught.value)
    assert "kar run --kubeconfig FILE" in told
    assert "docs/laptop.md" in told
    assert (ROOT / "docs" / "laptop.md").is_file()
    return told


def test_only_root_may_start_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "needs root" in refused(machine.require_root)


@pytest.mark.parametrize(("kernel", "name"), [("Darwin", "macOS"), ("Windows", "Windows")])
def test_another_kernel_is_refused_by_its_name(
    kernel: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: kernel)
    assert f"this is {name}. " in refused(machine.require_root)


def test_windows_lacks_a_module_and_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['fcntl'] = None\n")
    done = kar("cluster", "up", folder=tmp_path, PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "needs Linux" in line
    assert "kar run --kubeconfig FILE" in line


@pytest.mark.parametrize(
    ("text", "tried"),
    [
        ('ID=debian\nVERSION_ID="12"\n', True),
        ('ID=debian\nVERSION_ID="13"\n', False),
        ('ID=ubuntu\nVERSION_ID="22.04"\n', False),
        ('ID=ubuntu\nVERSION_ID="24.04"\n', False),
    ],
)
def test_a_known_system_says_whether_it_was_tried(tmp_path: Path, text: str, tried: bool) -> None:
    file = tmp_path / "os-release"
    file.write_text(text)
    assert machine.require_system(file).tried is tried


@pytest.mark.parametrize(
    "text",
    [
        'ID=debian\nVERSION_ID="11"\nPRETTY_NAME="Debian 11"\n',
        'ID=ubuntu\nVERSION_ID="12"\n',
        'ID=fedora\nVERSION_ID="44"\n',
        "",
    ],
)
def test_another_system_is_refused_with_those_that_fit(tmp_path: Path, text: str) -> None:
    file = tmp_path / "os-release"
    file.write_text(text)
    told = refused(lambda: machine.require_system(file))
    assert "Debian 12, Debian 13, Ubuntu 22.04, Ubuntu 24.04" in told


def test_the_readme_states_for_each_system_whether_it_was_tried() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    for system in machine.SYSTEMS.values():
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| {system.name} |")]
        assert row.split("|")[2].strip() == ("yes" if system.tried else "untested")


def test_ubuntu_needs_the_keys_of_debian() -> None:
    debian, ubuntu = (machine.SYSTEMS[one] for one in (("debian", "13"), ("ubuntu", "24.04")))
    assert set(ubuntu.needed.values()) - set(debian.needed.values()) == {
        *("debian-archive-keyring", "gpg")
    }


def test_too_little_memory_is_said() -> None:
    told = refused(lambda: machine.require_memory(2 * 1024**3))
    assert "this machine has 2.0 GiB" in told
