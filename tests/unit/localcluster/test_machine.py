import os
from pathlib import Path

import pytest

from localcluster import machine
from localcluster.errors import ClusterError


def test_only_root_may_start_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root"):
        machine.require_root()


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ('ID=debian\nVERSION_ID="12"\n', True),
        ('ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\n', False),
        ('ID=ubuntu\nVERSION_ID="12"\n', False),
        ("", False),
    ],
)
def test_only_debian_12_is_accepted(tmp_path: Path, text: str, accepted: bool) -> None:
    file = tmp_path / "os-release"
    file.write_text(text)
    if accepted:
        machine.require_debian(file)
    else:
        with pytest.raises(ClusterError, match="Debian 12"):
            machine.require_debian(file)


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"this machine has 2\.0 GiB"):
        machine.require_memory(2 * 1024**3)
