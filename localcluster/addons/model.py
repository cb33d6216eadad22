"""The description of an add-on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localcluster.gobuild import GoBuild
from localcluster.images import ImageConfig
from localcluster.wheels import WheelProgram


@dataclass(frozen=True)
class AddonImage:
    """An image made of built programs, under the name that upstream's manifests use.

    `programs` maps a path in the image to a program of the add-on's builds or wheels. The first
    one is the entry point of a user without rights, unless `config` tells otherwise. `packages`
    are Debian packages whose files a program needs beside it, `links` what installing them would
    have linked: a path in the image to where its symbolic link leads.
    """

    name: str
    programs: Mapping[str, str]
    config: ImageConfig | None = None
    packages: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Manifest:
    """Kubernetes objects inside a Go module, read from there at installation.

    `path` may be a pattern for several files, such as `config/crd/*_*.yaml`. Without a module
    they are in the sources of the cluster's own Kubernetes release. Each substitution must occur
    in the files, so that a new upstream version cannot silently lose one.
    """

    path: str
    module: str = "k8s.io/kubernetes"
    version: str | None = None
    substitutions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Chart:
    """A Helm chart inside a Go module, installed by Helm with some values of ours.

    `files` are files of the chart that its module holds as templates for a release: they are
    written with their substitutions made under the name that Helm looks for.
    """

    path: str
    module: str
    version: str
    release: str
    namespace: str
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, Manifest] = field(default_factory=dict[str, Manifest])


@dataclass(frozen=True)
class Objects:
    """Kubernetes objects of ours, as YAML."""

    text: str


@dataclass(frozen=True)
class Rollout:
    """A workload that has to be rolled out before the add-on counts as ready."""

    namespace: str
    workload: str


@dataclass(frozen=True)
class NodeFile:
    """A file that has to be on every node before the add-on counts as ready."""

    path: str


@dataclass(frozen=True)
class DryRun:
    """Objects, as YAML, that the API server has to admit before the add-on counts as ready.

    Nothing is kept of them. A webhook that a rollout does not wait for must answer here.
    """

    text: str


@dataclass(frozen=True)
class Addon:
    """Something that is built, imported, installed and waited for.

    `installs` are done in their order. `requires` names add-ons that come first. `idle_cpu_seconds`
    is what its pods use in a minute while nobody asks anything of them, all nodes together, as
    `benchmarks/idle_load.py` measures it; None says that nobody has measured it yet.
    """

    name: str
    builds: tuple[GoBuild, ...]
    images: tuple[AddonImage, ...]
    idle_cpu_seconds: float | None
    installs: tuple[Manifest | Chart | Objects, ...] = ()
    ready: tuple[Rollout | NodeFile | DryRun, ...] = ()
    requires: tuple[str, ...] = ()
    wheels: tuple[WheelProgram, ...] = ()
