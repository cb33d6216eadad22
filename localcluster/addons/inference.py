"""Endpoint pickers: images that the checks deploy themselves, beside a pool of their own.

A picker belongs to the namespace of whoever tests with it, so nothing of it is installed; it is
put on the nodes under the name that upstream gives.
"""

from localcluster.addons.model import Addon, AddonImage
from localcluster.gobuild import GoBuild

_EXTENSION = "sigs.k8s.io/gateway-api-inference-extension"

#: The last endpoint picker of the inference extension that reads what model servers report.
ENDPOINT_PICKER = Addon(
    name="endpoint-picker",
    requires=("gateway",),
    builds=(
        GoBuild(
            name="epp",
            module=_EXTENSION,
            version="v1.5.0",
            packages=(f"{_EXTENSION}/cmd/epp",),
        ),
    ),
    images=(
        AddonImage(
            name="registry.k8s.io/gateway-api-inference-extension/epp:v1.5.0",
            programs={"/epp": "epp"},
        ),
    ),
)
