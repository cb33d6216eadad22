"""Files of Go modules that are read at every start: manifests and charts.

They are copied out of the module when a cluster is built. A start then needs neither Go's module
cache, which may be given back, nor the network.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.gobuild import module_folder
from localcluster.paths import cache, private_folder

#: A module, its version, and a path in it, which may be a pattern.
Wanted = tuple[str, str, str]


def upstream_files(module: str, version: str, pattern: str) -> list[Path]:
    """The files or folders of a module that match a pattern, in the order of their names."""
    home = private_folder(cache() / "upstream")
    digest = hashlib.sha256(f"{module} {version} {pattern}".encode()).hexdigest()[:12]
    target = home / f"{module.rpartition('/')[2]}-{version}-{digest}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=home, prefix=".copy-") as temporary:
            copy = Path(temporary) / "copy"
            copy.mkdir()
            for found in sorted(module_folder(module, version).glob(pattern)):
                if (copy / found.name).exists():
                    raise ClusterError(f"{pattern} of {module} matches two {found.name}")
                if found.is_dir():
                    shutil.copytree(found, copy / found.name, copy_function=shutil.copyfile)
                else:
                    shutil.copyfile(found, copy / found.name)
            _publish(copy, target)
    return sorted(target.iterdir())


def _publish(copy: Path, target: Path) -> None:
    try:
        copy.rename(target)
    except OSError:
        # Another start was faster.
        if not target.is_dir():
            raise


def keep(wanted: Iterable[Wanted]) -> None:
    """Copy what later starts will ask for."""
    for module, version, pattern in wanted:
        upstream_files(module, version, pattern)
