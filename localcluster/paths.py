"""Where the cluster keeps its things.

The state has one fixed place per machine and not one per user: bridges, namespaces and control
groups have fixed names too, so whoever comes next must find what an unclean death left behind.
The cache is per user, as every cache.
"""

import os
from pathlib import Path

STATE = Path("/var/lib/kar-checks/local-cluster")
# Of the machine as the state is, and gone with a restart as the cluster is.
LOCK = Path("/run/kar-checks-local-cluster.lock")
STATE_FILE = STATE / "state.json"
LOGS = STATE / "logs"
PKI = STATE / "pki"
KUBECONFIGS = STATE / "kubeconfigs"
KUBECONFIG = STATE / "kubeconfig"
GO_SOURCES = Path(__file__).parent / "go"


def cache() -> Path:
    """The per-user cache folder of everything that is built."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kar-checks"


def node_folder(node: str) -> Path:
    """The folder that holds one node's file systems."""
    return STATE / "nodes" / node


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def private_file(path: Path, content: bytes | str) -> Path:
    """Write a file that only its owner may read, complete or not at all."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
    return path
