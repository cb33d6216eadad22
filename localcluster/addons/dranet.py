"""DRANET: a driver that gives a node's network interfaces to pods by resource claims."""

from localcluster.addons.model import Addon, AddonImage, Manifest, Rollout
from localcluster.gobuild import GoBuild
from localcluster.images import ImageConfig

_MODULE, _VERSION = "sigs.k8s.io/dranet", "v1.4.0"

DRANET = Addon(
    name="dranet",
    idle_cpu_seconds=0.17,
    builds=(
        GoBuild(
            name="dranet",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd/dranet",),
            # In its own versions: it does not have what drivers of Kubernetes 1.37 must offer.
        ),
    ),
    images=(
        AddonImage(
            name="registry.k8s.io/networking/dranet:stable",
            programs={"/dranet": "dranet"},
            # The manifest's arguments begin with the program itself.
            config=ImageConfig(command=["/dranet"], user="0"),
        ),
    ),
    installs=(
        Manifest(
            path="install.yaml",
            module=_MODULE,
            version=_VERSION,
            substitutions={
                r'cpu: "100m"': "cpu: 10m",
                # Where the machine has no such devices, mounting them would make the folder.
                r"path: /dev/infiniband": "path: /run/dranet",
                r"failureThreshold: 12\n +periodSeconds: 5": "failureThreshold: 60\n"
                "          periodSeconds: 1",
            },
        ),
    ),
    ready=(Rollout("kube-system", "daemonset/dranet"),),
)
