"""The endpoint picker of the inference extension: an image that checks deploy themselves.

A picker belongs to the namespace of whoever tests with it, so nothing of it is installed; it is
put on the nodes under the name that upstream gives.
"""

from localcluster.addons.gateway import ENVOY_GATEWAY
from localcluster.addons.model import Addon, AddonImage
from localcluster.gobuild import GoBuild
from localcluster.programs import KUBERNETES

_EXTENSION = "sigs.k8s.io/gateway-api-inference-extension"

#: The last one that reads what model servers report; later ones only take turns.
ENDPOINT_PICKER = Addon(
    name="endpoint-picker",
    idle_cpu_seconds=0.0,
    requires=("gateway",),
    builds=(
        GoBuild(
            name="epp",
            module=_EXTENSION,
            version="v1.5.0",
            packages=(f"{_EXTENSION}/cmd/epp",),
            shares=(KUBERNETES, ENVOY_GATEWAY),
        ),
    ),
    images=(
        AddonImage(
            name="registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0",
            programs={"/epp": "epp"},
        ),
    ),
)
