"""Gang schedulers of their own: pods name the scheduler and the group, and objects describe it.

Each is a description, whether it comes from here (Volcano, coscheduling) or from a user's profile.
Objects are created from templates in which ``group`` and ``size`` are filled in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import yaml
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from kar_checks import paths
from kar_checks.checks.gang.groups import await_state
from kar_checks.checks.gang.observation import Problem, Refusal
from kar_checks.checks.gang.pods import failed_scheduling
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.trial import Trial
from kar_checks.kit.words import Reasons
from kar_checks.model import Reason
from kar_checks.profile import Profile

verdict = Reasons(__package__)


@dataclass(frozen=True)
class Description:
    """How pods become a gang for one scheduler. All texts are templates."""

    name: str
    looks_for: str
    scheduler: str
    """``spec.schedulerName`` of the pods; without one there is nothing to assess."""
    served: Kind | None = None
    """The kind whose being served says that it is installed; ``None`` where the user says so."""
    labels: str = ""
    """A YAML mapping for the pods; so are the ``annotations``."""
    annotations: str = ""
    objects: str = ""
    """YAML documents, created before the pods; the first is the group."""
    size_field: str = ""
    """Where the group's size stands in it, such as ``spec.minMember``, to be read back."""
    refusal: str = ""
    """The group's condition that says that it does not fit, such as ``Unschedulable=True``.

    Without one the pods' own condition ``PodScheduled`` says so, of every member.
    """
    values: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else the templates name."""


def volcano(profile: Profile) -> Description:
    """Return the description of Volcano.

    ``minResources`` is left out: with it a group may already be kept from the queue because of
    what is free elsewhere in the cluster, and the gang itself is never tried.
    """
    return Description(
        name="volcano",
        looks_for="PodGroup of scheduling.volcano.sh (Volcano)",
        scheduler=profile.text("gang.volcano_scheduler"),
        served=kinds.VOLCANO_POD_GROUP,
        annotations="scheduling.k8s.io/group-name: {{ group }}",
        objects=_template("volcano"),
        size_field="spec.minMember",
        refusal="Unschedulable=True",
        values={"queue": profile.text("gang.volcano_queue")},
    )


def coscheduling(profile: Profile) -> Description:
    """Return the description of coscheduling of scheduler-plugins.

    While its first members fit it holds their places until the group's timeout, so that this one
    is shorter than every window. Its groups have no condition.
    """
    return Description(
        name="coscheduling",
        looks_for="PodGroup of scheduling.x-k8s.io (coscheduling of scheduler-plugins)",
        scheduler=profile.text("gang.coscheduling_scheduler"),
        served=kinds.COSCHEDULING_POD_GROUP,
        labels="scheduling.x-k8s.io/pod-group: {{ group }}",
        objects=_template("coscheduling"),
        size_field="spec.minMember",
    )


def custom(profile: Profile) -> Description:
    """Return the description that the profile gives of the user's own scheduler."""
    return Description(
        name="custom",
        looks_for="a scheduler of your own (setting gang.custom_scheduler)",
        scheduler=profile.text("gang.custom_scheduler"),
        labels=profile.text("gang.custom_labels"),
        annotations=profile.text("gang.custom_annotations"),
        objects=profile.text("gang.custom_objects"),
        size_field=profile.text("gang.custom_size_field"),
        refusal=profile.text("gang.custom_refusal"),
    )


class Described:
    """A :class:`kar_checks.checks.gang.backend.GangBackend` that follows a description."""

    def __init__(self, description: Description) -> None:
        self.name = description.name
        self.looks_for = description.looks_for
        self.scheduler = description.scheduler
        self._told = description
        self._made: dict[str, list[tuple[Kind, Object]]] = {}

    def detect(self, facts: Facts) -> str:
        """Look for the kind, or take the user's word."""
        kind = self._told.served
        if kind is None:
            return f"schedulerName {self.scheduler}" if self.scheduler else ""
        return kind.api_version if facts.serves(kind.group, kind.version, kind.plural) else ""

    def create_group(self, trial: Trial, group: str, size: int) -> int:
        """Create the objects; what they are is asked of the server where it is not known.

        Raises:
            HarnessError: they are not YAML, not served, cluster-scoped, or refused.
        """
        made = self._made.setdefault(group, [])
        for body in self._documents(group, size):
            kind = _kind(trial, body)
            made.append((kind, trial.workspace.create(kind, body)))
        if not (made and self._told.size_field):
            return size
        found: Any = made[0][1]
        for key in self._told.size_field.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return int(found) if isinstance(found, int) else 0

    def group_objects(self, group: str) -> Sequence[tuple[Kind, Object]]:
        """Return the group; what else the description makes may be anything."""
        return self._made[group][:1]

    def join(self, pod: Object, group: str) -> Object:
        """Add labels and annotations."""
        out = copy.deepcopy(pod)
        for place, wanted in self._marks(group).items():
            if wanted:
                out["metadata"].setdefault(place, {}).update(wanted)
        return out

    def joined(self, stored: Object, group: str) -> bool:
        """Read labels and annotations back."""
        return not self._lost(stored, group)

    def why_not_joined(self, trial: Trial, stored: Object) -> Problem:
        """Name what was changed."""
        group = str(stored["metadata"]["labels"].get("kar-checks.dev/gang", ""))
        lost = ", ".join(self._lost(stored, group))
        return Problem.of(verdict("mutated.member", pod=stored["metadata"]["name"], lost=lost))

    def refusal(self, trial: Trial, group: str, pods: Sequence[str]) -> Refusal:
        """Read the group's condition or the pods' own, and the events on its pods."""
        if self._told.refusal:
            kind, made = self._made[group][0]
            stored = trial.cluster.find(kind, str(made["metadata"]["name"]), trial.namespace)
            said = [one for one in [self._condition(stored or {})] if one is not None]
            refused = bool(said)
        else:
            found = [trial.cluster.get(kinds.POD, name, trial.namespace) for name in pods]
            said = [one for one in map(_unschedulable, found) if one is not None]
            refused = len(said) == len(pods)
        texts = {_sentence(one) for one in said}
        return Refusal(
            refused=refused,
            # What is said of the group tells more than what is said of one of its pods.
            condition=min(texts, key=lambda one: (group not in one, one), default=""),
            events=failed_scheduling(trial, pods),
        )

    def await_refusal(self, trial: Trial, group: str, pods: Sequence[str], seconds: float) -> None:
        """Watch the group's condition, or every pod; one that got its node was not refused."""
        if self._told.refusal:
            kind, made = self._made[group][0]
            name = str(made["metadata"]["name"])
            await_state(trial, kind, name, lambda seen: self._condition(seen) is not None, seconds)
            return
        for name in pods:
            if not await_state(trial, kinds.POD, name, _answered, seconds):
                return

    def delete_group(self, trial: Trial, group: str) -> None:
        """Delete the objects, the last one first."""
        for kind, made in reversed(self._made.pop(group, [])):
            trial.workspace.delete(kind, str(made["metadata"]["name"]), seconds=0)

    def _condition(self, stored: Object) -> Object | None:
        kind, _, status = self._told.refusal.partition("=")
        found = pods.condition(stored, kind)
        return found if found is not None and found.get("status") == (status or "True") else None

    def _documents(self, group: str, size: int) -> list[Object]:
        found = self._rendered(self._told.objects, group, size, yaml.safe_load_all)
        documents = [one for one in found if one is not None]
        for one in documents:
            if not (isinstance(one, dict) and {"apiVersion", "kind", "metadata"} <= one.keys()):
                raise self._unusable(f"no Kubernetes object: {one!r}")
        return cast("list[Object]", documents)

    def _marks(self, group: str) -> dict[str, dict[str, str]]:
        out: dict[str, dict[str, str]] = {}
        for place, text in (
            ("labels", self._told.labels),
            ("annotations", self._told.annotations),
        ):
            (found,) = self._rendered(text, group, 0, lambda one: [yaml.safe_load(one)])
            if not isinstance(found or {}, dict):
                raise self._unusable(f"{place} are not a mapping: {found!r}")
            out[place] = {str(key): str(value) for key, value in (found or {}).items()}
        return out

    def _lost(self, stored: Object, group: str) -> list[str]:
        return [
            f"{place[:-1]} {key}"
            for place, wanted in self._marks(group).items()
            for key, value in wanted.items()
            if (stored["metadata"].get(place) or {}).get(key) != value
        ]

    def _rendered(self, text: str, group: str, size: int, parse: Callable[[str], Any]) -> list[Any]:
        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        try:
            template = environment.from_string(text)
            return list(parse(template.render(group=group, size=size, **self._told.values)))
        except (TemplateError, yaml.YAMLError) as error:
            raise self._unusable(str(error)) from error

    def _unusable(self, why: str) -> HarnessError:
        return HarnessError(
            Reason.API_ERROR,
            f"the description of the gang scheduler {self.name} cannot be used: {why}",
            f"correct the settings gang.{self.name}_… (docs/gang.md)",
        )


def _template(name: str) -> str:
    return paths.data("manifests", "gang", f"{name}.yaml.j2").read_text("utf-8")


def _kind(trial: Trial, body: Object) -> Kind:
    """Return how an object is addressed; the server says what its collection is called."""
    version, kind = str(body["apiVersion"]), str(body["kind"])
    for one in (kinds.VOLCANO_POD_GROUP, kinds.COSCHEDULING_POD_GROUP):
        if (one.api_version, one.kind) == (version, kind):
            return one
    group, _, plain = version.rpartition("/")
    path = f"/apis/{version}" if group else f"/api/{version}"
    for one in trial.cluster.call("GET", path).get("resources") or []:
        if one["kind"] == kind and "/" not in one["name"]:
            if one.get("namespaced"):
                return Kind(group, plain, str(one["name"]), kind)
            raise HarnessError(
                Reason.API_ERROR,
                f"{kind} of {version} belongs to the whole cluster",
                "create it beforehand; the suite only makes what lives in its namespace",
            )
    raise HarnessError(Reason.API_ERROR, f"the server knows no {kind} of {version}")


def _answered(pod: Object) -> bool:
    return pods.bound(pod) or _unschedulable(pod) is not None


def _unschedulable(pod: Object) -> Object | None:
    said = pods.condition(pod, "PodScheduled") or {}
    if said.get("status") == "False" and said.get("reason") == "Unschedulable":
        return said
    return None


def _sentence(said: Object) -> str:
    return f"{said['type']}={said.get('status')}, {said.get('reason')}: {said.get('message')}"
