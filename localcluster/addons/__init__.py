"""What can be installed on top of the core, each described as data.

A new add-on is a module here with one `Addon`, listed in `ADDONS`. The machinery that builds,
imports, applies and waits is in `localcluster.addons.install` and does not grow with them.
"""

from localcluster.addons.coredns import COREDNS
from localcluster.addons.coscheduling import COSCHEDULING
from localcluster.addons.dranet import DRANET
from localcluster.addons.endpoint_picker import ENDPOINT_PICKER
from localcluster.addons.gateway import GATEWAY
from localcluster.addons.inference_conformance import INFERENCE_CONFORMANCE
from localcluster.addons.inference_sim import INFERENCE_SIM
from localcluster.addons.kueue import KUEUE
from localcluster.addons.lws import LWS
from localcluster.addons.model import Addon
from localcluster.addons.multus import MULTUS
from localcluster.addons.network_policy import NETWORK_POLICY
from localcluster.addons.volcano import VOLCANO
from localcluster.errors import ClusterError

#: Installed on every cluster.
CORE_ADDONS = (COREDNS,)
#: Installed when asked for, in this order: Kueue's webhook wants to be asked about every Job, and
#: does not answer at first.
ADDONS: tuple[Addon, ...] = (
    COSCHEDULING,
    DRANET,
    GATEWAY,
    ENDPOINT_PICKER,
    INFERENCE_CONFORMANCE,
    INFERENCE_SIM,
    LWS,
    MULTUS,
    NETWORK_POLICY,
    VOLCANO,
    KUEUE,
)


def find_addons(names: tuple[str, ...]) -> tuple[Addon, ...]:
    """The core add-ons, those that were asked for by name, and before each what it requires.

    In the order in which they are installed, whatever the order of the names.
    """
    known = {addon.name: addon for addon in ADDONS}
    order = list(known)
    found = {addon.name: addon for addon in CORE_ADDONS}

    def add(name: str) -> None:
        if name not in known:
            choice = ", ".join(sorted(known)) or "none yet"
            raise ClusterError(f"there is no add-on {name!r}; known: {choice}")
        for other in known[name].requires:
            add(other)
        found[name] = known[name]

    for name in sorted(names, key=lambda one: order.index(one) if one in known else -1):
        add(name)
    return tuple(found.values())
