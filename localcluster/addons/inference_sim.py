"""llm-d-inference-sim: a model server that answers as vLLM does, without a model.

It belongs to the namespace of whoever tests with it, so nothing of it is installed; it is put on
the nodes under the name that upstream gives.
"""

from localcluster.addons.model import Addon, AddonImage
from localcluster.gobuild import GoBuild

_MODULE = "github.com/llm-d/llm-d-inference-sim"
_VERSION = "v0.10.2"

INFERENCE_SIM = Addon(
    name="inference-sim",
    idle_cpu_seconds=0.0,
    builds=(
        GoBuild(
            name="llm-d-inference-sim",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd/llm-d-inference-sim",),
        ),
    ),
    images=(
        AddonImage(
            name=f"ghcr.io/llm-d/llm-d-inference-sim:{_VERSION}",
            programs={"/app/llm-d-inference-sim": "llm-d-inference-sim"},
        ),
    ),
)
