"""NetworkPolicies that hold: kube-router, of whose three tasks only this one is given to it."""

from localcluster.addons.model import Addon, AddonImage, Manifest, Rollout
from localcluster.gobuild import GoBuild
from localcluster.images import ImageConfig
from localcluster.layout import SERVICE_NETWORK

_MODULE, _VERSION = "github.com/cloudnativelabs/kube-router/v2", "v2.10.0"
_IMAGE = f"docker.io/cloudnativelabs/kube-router:{_VERSION}"
_PROGRAM = "/usr/local/bin/kube-router"

# What comes with Debian's iptables is called by names that installing it would link.
_IPTABLES = ("iptables", "iptables-restore", "iptables-save")

NETWORK_POLICY = Addon(
    name="network-policy",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="kube-router",
            module=_MODULE,
            version=_VERSION,
            packages=(f"{_MODULE}/cmd/kube-router",),
            # The commit that it asks for is not served; the release before it does as well.
            replaces={"github.com/vishvananda/netlink": "github.com/vishvananda/netlink v1.3.1"},
        ),
    ),
    images=(
        AddonImage(
            name=_IMAGE,
            programs={_PROGRAM: "kube-router"},
            packages=("ipset", "iptables"),
            links={f"/usr/sbin/{name}": "xtables-nft-multi" for name in _IPTABLES},
            config=ImageConfig(entrypoint=[_PROGRAM], user="0"),
        ),
    ),
    installs=(
        Manifest(
            path="daemonset/generic-kuberouter.yaml",
            module=_MODULE,
            version=_VERSION,
            substitutions={
                r"--run-router=true": "--run-router=false",
                r"--bgp-graceful-restart=true": f"--service-cluster-ip-range={SERVICE_NETWORK}",
                # The cluster has a pod network, and the kernel's modules and the lock of the old
                # iptables would become a folder and a file of the machine.
                r"(?s)\n      initContainers:.*?(?=\n      hostNetwork:)": "",
                r"image: \S+\n +imagePullPolicy: Always": f"image: {_IMAGE}",
                r"\n +- name: (lib-modules|xtables-lock)\n +mountPath: .*\n +readOnly: .*": "",
                r"\n      - name: (lib-modules|host-opt)\n +hostPath:\n +path: .*": "",
                r"\n      - name: xtables-lock\n +hostPath:\n +path: .*\n +type: .*": "",
                # The nodes are small; what it reserves is missing to the checks.
                r"cpu: 250m\n +memory: 250Mi": "cpu: 10m",
                # Ready would be whoever runs; and who is slow on a busy machine is not to be ended.
                r"livenessProbe:": "readinessProbe:",
                r"initialDelaySeconds: 10\n +periodSeconds: 3": "periodSeconds: 1",
            },
        ),
    ),
    ready=(Rollout("kube-system", "daemonset/kube-router"),),
)
