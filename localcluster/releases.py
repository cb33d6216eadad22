"""The Kubernetes releases that the cluster can be built from, and what differs between them."""

from dataclasses import dataclass

from localcluster.errors import ClusterError


@dataclass(frozen=True)
class Release:
    """One Kubernetes version with the parts that must fit it."""

    kubernetes: str
    etcd: str
    gang_gates: tuple[str, ...]
    gang_api: str

    @property
    def minor(self) -> str:
        """The minor version as users name it, such as `1.37`."""
        return ".".join(self.kubernetes.split(".")[:2])

    @property
    def staging(self) -> str:
        """The version of the k8s.io libraries that belong to this release."""
        return "v0." + self.kubernetes.split(".", 1)[1]


RELEASES = (
    Release(
        kubernetes="1.37.0",
        etcd="3.7.0",
        gang_gates=("GenericWorkload",),
        gang_api="scheduling.k8s.io/v1beta1",
    ),
    Release(
        kubernetes="1.36.3",
        etcd="3.6.8",
        gang_gates=("GenericWorkload", "GangScheduling"),
        gang_api="scheduling.k8s.io/v1alpha2",
    ),
)
DEFAULT_RELEASE = RELEASES[0]


def find_release(version: str) -> Release:
    """The release of a full version (`1.37.0`, `v1.37.0`) or of a minor (`1.37`)."""
    wanted = version.removeprefix("v")
    for release in RELEASES:
        if wanted in (release.kubernetes, release.minor):
            return release
    known = ", ".join(release.kubernetes for release in RELEASES)
    raise ClusterError(f"Kubernetes {version} is not known to the local cluster; known: {known}")
