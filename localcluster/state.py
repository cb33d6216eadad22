"""What is recorded about the running cluster, so that it can be ended and changed later."""

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from localcluster.components import Component
from localcluster.errors import ClusterError
from localcluster.paths import STATE_FILE, private_file, private_folder
from localcluster.processes import Process
from localcluster.settings import Settings

_LOCK = threading.RLock()


@dataclass
class State:
    """One cluster: what was asked for, what it is made of and what runs."""

    settings: Settings
    ready: bool = False
    binaries: dict[str, str] = field(default_factory=dict[str, str])
    components: dict[str, Component] = field(default_factory=dict[str, Component])
    processes: dict[str, Process] = field(default_factory=dict[str, Process])

    def save(self) -> None:
        """Write the record to disk."""
        with _LOCK:
            private_folder(STATE_FILE.parent)
            private_file(STATE_FILE, json.dumps(asdict(self), indent=1))

    def add(self, component: Component, process: Process) -> None:
        """Record that a component was started."""
        with _LOCK:
            self.components[component.name] = component
            self.processes[component.name] = process
            self.save()

    def binary(self, folder: str) -> Path:
        """The folder of built programs by the name of their build."""
        return Path(self.binaries[folder])


_RECORD = TypeAdapter(State)


def load(path: Path = STATE_FILE) -> State | None:
    """The recorded state; nothing if there is no cluster."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except PermissionError as denied:
        raise ClusterError("the local cluster belongs to root; run this as root") from denied
    try:
        return _RECORD.validate_json(text)
    except ValidationError as error:
        raise ClusterError(f"the record {path} is not of this version") from error
