"""Coscheduling of scheduler-plugins, as a second scheduler with its controller."""

from localcluster.addons.model import Addon, AddonImage, Chart, Manifest, Objects, Rollout
from localcluster.gobuild import GoBuild

_MODULE, _VERSION = "sigs.k8s.io/scheduler-plugins", "v0.32.7"
_NAMESPACE = "scheduler-plugins"
_REGISTRY = "registry.k8s.io/scheduler-plugins"
# The chart's own role forgets volume attachments, without which this scheduler starts, is Ready
# and waits for ever.
_RIGHTS = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: scheduler-plugins-as-kube-scheduler
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: system:kube-scheduler
subjects:
- kind: ServiceAccount
  name: scheduler-plugins-scheduler
  namespace: {_NAMESPACE}
"""

COSCHEDULING = Addon(
    name="coscheduling",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="scheduler-plugins",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd/scheduler", f"{_MODULE}/cmd/controller"),
        ),
    ),
    images=(
        AddonImage(
            name=f"{_REGISTRY}/kube-scheduler:{_VERSION}",
            programs={"/bin/kube-scheduler": "scheduler"},
        ),
        AddonImage(
            name=f"{_REGISTRY}/controller:{_VERSION}", programs={"/bin/controller": "controller"}
        ),
    ),
    installs=(
        Objects(_RIGHTS),
        # The chart has none of its own; the controller wants both kinds.
        *(
            Manifest(
                path=f"config/crd/bases/scheduling.x-k8s.io_{name}.yaml",
                module=_MODULE,
                version=_VERSION,
            )
            for name in ("podgroups", "elasticquotas")
        ),
        Chart(
            path="manifests/install/charts/as-a-second-scheduler",
            module=_MODULE,
            version=_VERSION,
            release="scheduler-plugins",
            namespace=_NAMESPACE,
            # The other plugins of the chart want kinds that are not there.
            values={"plugins": {"enabled": ["Coscheduling"]}},
        ),
    ),
    ready=tuple(
        Rollout(_NAMESPACE, f"deployment/scheduler-plugins-{name}")
        for name in ("scheduler", "controller")
    ),
)
