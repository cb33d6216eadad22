"""The cluster's DNS."""

from localcluster.addons.model import Addon, AddonImage, Manifest, Rollout
from localcluster.gobuild import GoBuild
from localcluster.layout import DNS_ADDRESS, DNS_DOMAIN
from localcluster.programs import KUBERNETES

# The image is called as each release's manifest calls it; only the name is upstream's.
_IMAGE = "registry.k8s.io/coredns/coredns:local"

COREDNS = Addon(
    name="coredns",
    idle_cpu_seconds=0.07,
    builds=(
        GoBuild(
            name="coredns",
            module="github.com/coredns/coredns",
            version="v1.15.0",
            source="coredns",
            shares=(KUBERNETES,),
        ),
    ),
    images=(AddonImage(name=_IMAGE, programs={"/coredns": "coredns"}),),
    installs=(
        Manifest(
            path="cluster/addons/dns/coredns/coredns.yaml.base",
            substitutions={
                r"__DNS__DOMAIN__": DNS_DOMAIN,
                r"__DNS__SERVER__": DNS_ADDRESS,
                r"__DNS__MEMORY__LIMIT__": "170Mi",
                r"registry\.k8s\.io/coredns/coredns:v[0-9.]+": _IMAGE,
                # The nodes are small; what DNS reserves is missing to the checks.
                r"cpu: 100m": "cpu: 20m",
                r"memory: 70Mi": "memory: 40Mi",
                # With the usual ten seconds, a probe that comes too early costs them all. Asking
                # each second at the start alone does not keep the node busy afterwards.
                r"readinessProbe:\n": "startupProbe:\n"
                "          httpGet: {path: /ready, port: 8181}\n"
                "          periodSeconds: 1\n"
                "          failureThreshold: 300\n"
                "        readinessProbe:\n",
                # The cluster's network ends at the machine, so there is nobody to ask about
                # other names: refusing at once is better than a timeout.
                r"\n +forward [^{]*\{[^}]*\}": "",
                r"\n +loop\n": "\n",
            },
        ),
    ),
    ready=(Rollout("kube-system", "deployment/coredns"),),
)
