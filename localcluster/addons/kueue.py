"""Kueue, which admits groups of pods by quota."""

from localcluster.addons.model import Addon, AddonImage, Chart, DryRun, Rollout
from localcluster.gobuild import GoBuild

_MODULE = "sigs.k8s.io/kueue"
_VERSION = "v0.19.2"
_REPOSITORY = "registry.k8s.io/kueue/kueue"
_NAMESPACE = "kueue-system"

# Their names are refused by nobody but a webhook that answers: nothing else looks at them.
_ASKED = """\
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: asks-the-webhook}
---
apiVersion: batch/v1
kind: Job
metadata: {name: asks-the-webhook, namespace: default}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: none}]
---
apiVersion: v1
kind: Pod
metadata: {name: asks-the-webhook, namespace: default}
spec:
  containers: [{name: main, image: none}]
"""

KUEUE = Addon(
    name="kueue",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="kueue",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd/kueue",),
            variables={f"{_MODULE}/pkg/version.GitVersion": _VERSION},
        ),
    ),
    images=(AddonImage(name=f"{_REPOSITORY}:{_VERSION}", programs={"/manager": "kueue"}),),
    installs=(
        Chart(
            path="charts/kueue",
            module=_MODULE,
            version=_VERSION,
            release="kueue",
            namespace=_NAMESPACE,
            values={
                "controllerManager": {
                    "manager": {
                        "image": {
                            "repository": _REPOSITORY,
                            "tag": _VERSION,
                            "pullPolicy": "IfNotPresent",
                        },
                        # The nodes are small; what Kueue reserves is missing to the checks.
                        "resources": {
                            "requests": {"cpu": "20m", "memory": "128Mi"},
                            "limits": {"memory": "512Mi"},
                        },
                    },
                    "readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 1},
                },
            },
        ),
    ),
    ready=(Rollout(_NAMESPACE, "deployment/kueue-controller-manager"), DryRun(_ASKED)),
)
