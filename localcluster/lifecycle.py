"""Starting one component and recording it."""

from collections.abc import Mapping, Sequence

from localcluster.components import Component, command_line
from localcluster.node import enter_argv
from localcluster.processes import launch
from localcluster.state import State

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def start_component(
    record: State,
    component: Component,
    extra_args: Sequence[str] = (),
    feature_gates: Mapping[str, bool] | None = None,
) -> None:
    """Start a component where it belongs, and record it."""
    argv = command_line(component, extra_args, feature_gates or {})
    holder = f"node@{component.node}"
    if component.node and component.name != holder:
        argv = [*enter_argv(record.processes[holder].pid), *argv]
    # Nothing of the user's environment: a proxy meant for the world would swallow the calls
    # between components.
    environment = {
        "HOME": "/root",
        # Half of the API server's idle load was collecting its garbage, and a third of the other
        # components' was waking and stopping threads for what one thread does as well.
        "GOGC": "300",
        **({} if component.name == "kube-apiserver" else {"GOMAXPROCS": "1"}),
        # containerd looks here for the shim that was built with it.
        "PATH": f"{record.binary('containerd')}:{_SYSTEM_PATH}",
    }
    record.add(component, launch(argv, component.log, component.cgroup, environment))
