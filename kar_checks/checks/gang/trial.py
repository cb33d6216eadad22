"""The gang trial: every gang scheduler that is found, all at once on nodes of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import zip_longest

from kar_checks.checks.gang import measures
from kar_checks.checks.gang.bench import Assessment, Bench
from kar_checks.checks.gang.described import Described, coscheduling, custom, volcano
from kar_checks.checks.gang.kueue.assessment import Kueue
from kar_checks.checks.gang.native import Native
from kar_checks.checks.gang.observation import (
    BackendObservation,
    Canary,
    GangObservation,
    Problem,
    Scenario,
)
from kar_checks.checks.gang.placement import SIZE, Placement
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Fault, Figure, Record
from kar_checks.profile import Profile
from kar_checks.store import now

NODES = 6
"""So many are filled at a time at most: with more, several schedulers would be done sooner."""


def known(profile: Profile) -> list[Assessment]:
    """Return every gang scheduler that is looked for."""
    described = (volcano(profile), coscheduling(profile), custom(profile))
    return [
        Placement(Native()),
        Kueue(profile.text("gang.kueue_local_queue")),
        *(Placement(Described(one)) for one in described),
    ]


def run(trial: Trial) -> GangObservation:
    """Measure every gang scheduler that is found.

    What one of them cannot do is recorded in its own observation.

    Raises:
        HarnessError: nothing can be measured (no API server, no right to watch our own pods).
    """
    started = now()
    looked_for = [
        one for one in known(trial.profile) if trial.profile.chooses("gang.backends", one.name)
    ]
    versions = {one.name: version for one in looked_for if (version := one.detect(trial.facts))}
    found = [one for one in looked_for if one.name in versions]
    seen: dict[str, BackendObservation | Fault] = {}
    figures: list[Figure] = []
    if found:
        with Bench(trial) as bench:
            seen = _assess(bench, found, versions)
            figures = bench.figures
    return GangObservation(
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        disturbances=_told(seen),
        figures=figures,
        measures=measures.of(seen),
        looked_for=[one.looks_for for one in looked_for],
        backends=seen,
    )


def _assess(
    bench: Bench, found: list[Assessment], versions: Mapping[str, str]
) -> dict[str, BackendObservation | Fault]:
    """Send the canaries first, then everything that they allow at once, longest part first."""
    trial = bench.trial
    canaries = trial.side_by_side(
        {f"{one.name}-canary": partial(one.canary, trial) for one in found}
    )
    told = {one.name: canaries[f"{one.name}-canary"] for one in found}
    parts = {one.name: one.parts(bench) for one in found if isinstance(told[one.name], Canary)}
    if parts:
        alive = [one for one in told.values() if isinstance(one, Canary)]
        count = sum(len(one) for one in parts.values())
        bench.furnish(alive, SIZE, min(NODES, count))
    work: dict[str, Callable[[], Record]] = {}
    for column in zip_longest(*([(name, part) for part in own] for name, own in parts.items())):
        for name, part in filter(None, column):
            work[f"{name}-{part}"] = parts[name][part]
    done = trial.side_by_side(work)
    out: dict[str, BackendObservation | Fault] = {}
    for name, version in versions.items():
        canary = told[name]
        if isinstance(canary, Fault):
            out[name] = canary
            continue
        out[name] = BackendObservation.model_validate(
            {
                "version": version,
                "problem": canary if isinstance(canary, Problem) else None,
                **{part: done[f"{name}-{part}"] for part in parts.get(name, ())},
            }
        )
    return out


def _told(seen: Mapping[str, BackendObservation | Fault]) -> list[str]:
    """Return the disturbances of all scenarios in words."""
    return [
        f"{name}/{title}: {one.text}"
        for name, backend in seen.items()
        if isinstance(backend, BackendObservation)
        for title, part in backend
        if isinstance(part, Scenario)
        for one in part.disturbances
    ]
