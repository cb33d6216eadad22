"""The official conformance suite of the inference extension, and what its manifests deploy.

The suite makes its own namespaces and objects, so nothing is installed: its images are put on the
nodes under the names that it gives, and its program stays in the cache of builds.
"""

from localcluster.addons.model import Addon, AddonImage
from localcluster.gobuild import GoBuild

_EXTENSION = "sigs.k8s.io/gateway-api-inference-extension"
_VERSION = "v1.6.0"
_GATEWAY = "sigs.k8s.io/gateway-api"
_GATEWAY_VERSION = "v1.6.1"

INFERENCE_CONFORMANCE = Addon(
    name="inference-conformance",
    idle_cpu_seconds=0.0,
    requires=("gateway",),
    builds=(
        GoBuild(
            name="lwepp",
            module=_EXTENSION,
            version=_VERSION,
            packages=(f"{_EXTENSION}/cmd/lwepp",),
        ),
        GoBuild(
            name="echo-basic",
            module=f"{_GATEWAY}/conformance",
            version=_GATEWAY_VERSION,
            packages=(f"{_GATEWAY}/conformance/echo-basic",),
            replaces={_GATEWAY: f"{_GATEWAY} {_GATEWAY_VERSION}"},
        ),
        GoBuild(
            name="inference-suite",
            module=f"{_EXTENSION}/conformance",
            version=_VERSION,
            source="inference-suite",
            local_replaces=_VERSION,
        ),
    ),
    images=(
        AddonImage(
            name=f"registry.k8s.io/gateway-api-inference-extension/lwepp:{_VERSION}",
            programs={"/lwepp": "lwepp"},
        ),
        AddonImage(
            name="gcr.io/k8s-staging-gateway-api/echo-basic:v20251106-v1.3.0-263-g47c3435c",
            programs={"/echo-basic": "echo-basic"},
        ),
    ),
)
