"""The description of an add-on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localcluster.gobuild import GoBuild


@dataclass(frozen=True)
class AddonImage:
    """An image made of built programs, under the name that upstream's manifests use.

    `programs` maps a path in the image to a program of the add-on's build. The first one is
    the entry point.
    """

    name: str
    programs: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """A file of Kubernetes objects inside a Go module, read from there at installation.

    Without a module it is in the sources of the cluster's own Kubernetes release. Each
    substitution must occur in the file, so that a new upstream version cannot silently lose one.
    """

    path: str
    module: str = "k8s.io/kubernetes"
    version: str | None = None
    substitutions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Rollout:
    """A workload that has to be rolled out before the add-on counts as ready."""

    namespace: str
    workload: str


@dataclass(frozen=True)
class Addon:
    """Something that is built, imported, applied and waited for."""

    name: str
    build: GoBuild
    images: tuple[AddonImage, ...]
    manifests: tuple[Manifest, ...]
    ready: tuple[Rollout, ...]
