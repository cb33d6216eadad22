"""LeaderWorkerSet, which makes groups of pods of one leader and its workers."""

from localcluster.addons.kueue import KUEUE
from localcluster.addons.model import Addon, AddonImage, Chart, DryRun, Rollout
from localcluster.gobuild import GoBuild

_MODULE, _VERSION = "sigs.k8s.io/lws", "v0.9.0"
_REPOSITORY = "registry.k8s.io/lws/lws"
_NAMESPACE = "lws-system"

# Only its webhooks give it the fields that they then miss themselves.
_ASKED = """\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: asks-the-webhook, namespace: default}
spec:
  leaderWorkerTemplate:
    workerTemplate:
      spec:
        containers: [{name: main, image: none}]
"""

LWS = Addon(
    name="lws",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="lws",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd",),
            # In Kueue's versions of what both depend on: compiled once for both.
            requires={"sigs.k8s.io/kueue": KUEUE.builds[0].version},
            variables={f"{_MODULE}/pkg/version.GitVersion": _VERSION},
        ),
    ),
    images=(AddonImage(name=f"{_REPOSITORY}:{_VERSION}", programs={"/manager": "cmd"}),),
    installs=(
        Chart(
            path="charts/lws",
            module=_MODULE,
            version=_VERSION,
            release="lws",
            namespace=_NAMESPACE,
            values={
                "image": {
                    "manager": {
                        "repository": _REPOSITORY,
                        "tag": _VERSION,
                        "pullPolicy": "IfNotPresent",
                    }
                },
                # The nodes are small.
                "resources": {
                    "requests": {"cpu": "20m", "memory": "64Mi"},
                    "limits": {"memory": "512Mi"},
                },
            },
        ),
    ),
    ready=(Rollout(_NAMESPACE, "deployment/lws-controller-manager"), DryRun(_ASKED)),
)
