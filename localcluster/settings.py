"""What a user may choose about the cluster."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from localcluster.errors import ClusterError
from localcluster.releases import DEFAULT_RELEASE, Release, find_release

Gang = Literal["on", "off", "api-only"]
_GANGS: dict[str, Gang] = {"on": "on", "off": "off", "api-only": "api-only"}


@dataclass(frozen=True)
class Settings:
    """The choices that make two clusters different from each other."""

    kubernetes: str = DEFAULT_RELEASE.kubernetes
    gang: Gang = "on"
    addons: tuple[str, ...] = ()

    @property
    def release(self) -> Release:
        """The Kubernetes release that was chosen."""
        return find_release(self.kubernetes)

    @property
    def feature_gates(self) -> dict[str, bool]:
        """The feature gates that every component gets.

        Off means written out as off, so that a release which turns the feature on by default
        does not change what `gang=off` stands for.
        """
        return dict.fromkeys(self.release.gang_gates, self.gang != "off")

    @property
    def runtime_config(self) -> str:
        """The apiserver's choice of API versions."""
        return f"{self.release.gang_api}={'false' if self.gang == 'off' else 'true'}"

    def describe(self) -> str:
        """The settings in words, for one line of output."""
        addons = f", add-ons {' '.join(self.addons)}" if self.addons else ""
        return f"Kubernetes {self.kubernetes}, gang={self.gang}{addons}"


def parse_settings(
    kubernetes: str | None, assignments: Iterable[str], addons: Iterable[str]
) -> Settings:
    """Settings from the command line's words; raises on anything it does not know."""
    gang: Gang = "on"
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ClusterError(f"--set needs KEY=VALUE, not {assignment!r}")
        if key != "gang":
            raise ClusterError(f"there is no setting {key!r}; known: gang")
        gang = _gang(value)
    release = find_release(kubernetes) if kubernetes else DEFAULT_RELEASE
    return Settings(release.kubernetes, gang, tuple(sorted(set(addons))))


def _gang(value: str) -> Gang:
    if value not in _GANGS:
        raise ClusterError(f"gang is one of {', '.join(_GANGS)}, not {value!r}")
    return _GANGS[value]
