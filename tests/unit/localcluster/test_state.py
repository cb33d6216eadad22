from pathlib import Path

import pytest

from localcluster import state
from localcluster.components import Component
from localcluster.errors import ClusterError
from localcluster.processes import Process
from localcluster.settings import Settings


def test_a_record_survives_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own" / "state.json"
    monkeypatch.setattr(state, "STATE_FILE", file)
    record = state.State(Settings(gang="off", addons=("a",)), binaries={"kubernetes": "/x"})
    component = Component("kubelet@kar1", ("kubelet", "--v=1"), "kar1", {"A": False})
    record.add(component, Process(12, 345))
    assert state.load(file) == record
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_record_of_another_version_is_said(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"settings": {"kubernetes": 3}}')
    with pytest.raises(ClusterError, match="not of this version"):
        state.load(file)


def test_without_a_file_there_is_no_cluster(tmp_path: Path) -> None:
    assert state.load(tmp_path / "state.json") is None
