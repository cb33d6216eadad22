"""The environment works wherever the checkout is, in any locale."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scripts import ascii_pth


@pytest.mark.parametrize("name", ["naïve", "日本", "plain"])
def test_an_editable_project_in_any_folder_starts_in_the_c_locale(
    name: str, tmp_path: Path
) -> None:
    project = tmp_path / name
    project.mkdir()
    (project / "found_here.py").write_text("print('found')\n", "utf-8")
    home = tmp_path / "venv"
    venv.create(home)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    pth = home / "lib" / version / "site-packages" / "_editable_impl_project.pth"
    # Some builders name the folder twice.
    pth.write_bytes(f"{project}\n{project}\n".encode())
    ascii_pth.main(str(home))
    for utf8 in ("0", "1"):
        done = subprocess.run(
            [home / "bin" / "python", "-c", "import found_here"],
            env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "found\n"), done.stderr
    assert pth.read_bytes().isascii()
