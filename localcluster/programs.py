"""The programs of the cluster's core, as builds."""

from localcluster.gobuild import GoBuild
from localcluster.releases import DEFAULT_RELEASE, Release

# The multi-call program's further names.
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)


def kubernetes(release: Release) -> GoBuild:
    """Kubernetes with etcd and kubectl, in one program that is called by many names."""
    version = "k8s.io/component-base/version"
    major, minor = release.minor.split(".")
    return GoBuild(
        name="kubernetes",
        module="k8s.io/kubernetes",
        version=f"v{release.kubernetes}",
        source="kubernetes",
        links=COMPONENTS,
        requires={"go.etcd.io/etcd/server/v3": f"v{release.etcd}"},
        local_replaces=release.staging,
        variables={
            # Without these the servers say that they are v0.0.0.
            f"{version}.gitVersion": f"v{release.kubernetes}",
            f"{version}.gitMajor": major,
            f"{version}.gitMinor": minor,
        },
    )


#: The versions that everything else is built in, where it works: those of the longest build.
KUBERNETES = kubernetes(DEFAULT_RELEASE)

_OTLP = "go.opentelemetry.io/otel/exporters/otlp"
CONTAINERD = GoBuild(
    name="containerd",
    module="github.com/containerd/containerd/v2",
    version="v2.4.2",
    packages=(
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ),
    shares=(KUBERNETES,),
    replaces={
        # Its own, which Kubernetes has in older versions.
        "github.com/containerd/containerd/api": "github.com/containerd/containerd/api v1.12.0",
        "github.com/containerd/log": "github.com/containerd/log v0.2.0",
        "github.com/sirupsen/logrus": "github.com/sirupsen/logrus v1.10.2",
        # In the version of the others of this family, which Kubernetes lacks.
        f"{_OTLP}/otlptrace/otlptracehttp": f"{_OTLP}/otlptrace/otlptracehttp v1.44.0",
    },
)
HELM = GoBuild(
    name="helm",
    module="helm.sh/helm/v3",
    version="v3.22.0",
    packages=("helm.sh/helm/v3/cmd/helm",),
    shares=(KUBERNETES,),
)
PAUSE = GoBuild(name="pause", source="pause")
