"""The one place where the suite meets the embedded cluster: where it is, what its images are."""

from __future__ import annotations

from pathlib import Path

from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.target import IMAGES
from kar_checks.model import Reason


def local_kubeconfig() -> Path:
    """Return the kubeconfig of the running local cluster.

    Raises:
        HarnessError: it does not run.
    """
    from localcluster import ClusterError, LocalCluster

    try:
        return LocalCluster.load().kubeconfig
    except ClusterError as error:
        raise HarnessError(
            Reason.UNREACHABLE, str(error), "start it with `kar cluster up`"
        ) from error


def local_images() -> dict[str, str]:
    """Return the images that were put on its nodes: it has no registry to pull ours from."""
    from localcluster import PROBE_IMAGES

    return {name: reference for name, reference in PROBE_IMAGES.items() if name in IMAGES}
