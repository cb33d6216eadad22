#!/usr/bin/env python3
"""Make the image of `kar install` without a container engine: runner_image.py FILE [NAME].

FILE becomes an OCI archive (`ctr -n k8s.io images import FILE`, `skopeo copy oci-archive:FILE …`)
with Debian's Python, this suite, and what it needs of the environment that this script runs in:
.venv/bin/python scripts/runner_image.py runner.tar
"""

from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from localcluster.images import NONROOT, DebianImage, ImageConfig, debian_image, extended_image  # noqa: E402
from localcluster.progress import Progress  # noqa: E402

NAME = "docker.io/kar-checks/runner:local"
PYTHON = (3, 11)
"""Debian 12's: the compiled parts of the environment must be for it."""
HOME = "/opt/kar"
OWN = ("kar_checks", "localcluster")
CONFIG = ImageConfig(
    entrypoint=["kar"],
    user=str(NONROOT),
    environment=(
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"PYTHONPATH={HOME}",
        "PYTHONDONTWRITEBYTECODE=1",
        "MPLCONFIGDIR=/tmp",
    ),
)
BASE = DebianImage(
    label="runner-base",
    names=("docker.io/kar-checks/runner-base:local",),
    packages=("coreutils", "dash", "libpython3-stdlib", "libstdc++6", "python3-minimal"),
    config=CONFIG,
    links={"/bin/sh": "dash", "/usr/local/bin/python3": "/usr/bin/python3"},
)
LAUNCHER = "#!/usr/bin/python3\nfrom kar_checks.cli import main\n\nmain()\n"


def closure(name: str, found: dict[str, metadata.Distribution]) -> dict[str, metadata.Distribution]:
    """Return a distribution and all that it requires, without extras."""
    one = metadata.distribution(name)
    key = one.metadata["Name"].lower()
    if key not in found:
        found[key] = one
        for line in one.requires or []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                closure(wanted.name, found)
    return found


def files() -> dict[str, Path]:
    """Return what goes into the image: path there, path here."""
    out: dict[str, Path] = {}
    for name, one in closure("kar-checks", {}).items():
        for file in one.files or []:
            parts = file.parts
            if ".." in parts or "__pycache__" in parts or "tests" in parts:
                continue
            if name == "kar-checks" and not parts[0].endswith(".dist-info"):
                continue
            path = Path(str(one.locate_file(file)))
            if path.is_file():
                out[f"{HOME}/{file}"] = path
    for room in OWN:
        out |= _tree(ROOT / room, f"{HOME}/{room}")
    for room in ("probes", "manifests", "reports"):
        out |= _tree(ROOT / room, f"{HOME}/kar_checks/_data/{room}")
    return out


def _tree(folder: Path, there: str) -> dict[str, Path]:
    return {
        f"{there}/{path.relative_to(folder)}": path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def make(target: Path, name: str = NAME) -> None:
    """Write the image; the base with Python comes from the cache if it was made before."""
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"this needs Python {PYTHON[0]}.{PYTHON[1]}, as the image has")
    base = debian_image(BASE, Progress())
    with tempfile.TemporaryDirectory() as scratch:
        launcher = Path(scratch) / "kar"
        launcher.write_text(LAUNCHER)
        extended_image(target, name, base, {**files(), "/usr/local/bin/kar": launcher}, CONFIG)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    make(Path(sys.argv[1]).resolve(), *sys.argv[2:])
