"""What runs are compared by: how well and how soon picks follow what servers report."""

from __future__ import annotations

from collections.abc import Mapping

from kar_checks.checks.routing.observation import ClassObservation, Load
from kar_checks.model import Fault, Measure


def of(classes: Mapping[str, ClassObservation | Fault]) -> list[Measure]:
    """Return the measures of each class whose servers reported load."""
    found: list[Measure] = []
    for name, seen in classes.items():
        if not isinstance(seen, ClassObservation) or not isinstance(seen.load, Load):
            continue
        loaded = [one for one in seen.load.phases if one.loaded and one.sample.good()]
        delays = [one.read_after.get(one.loaded) for one in loaded]
        found += [
            Measure(
                name="requests kept from the loaded server",
                variant=name,
                unit="%",
                better="higher",
                samples=[
                    100 * (1 - one.sample.good(pod=one.loaded) / one.sample.good())
                    for one in loaded
                ],
                how="one sample for each time that a server reported load",
            ),
            Measure(
                name="a report of load is read",
                variant=name,
                unit="s",
                better="lower",
                samples=[one for one in delays if one is not None],
                how="from the change of the report, one sample for each",
            ),
        ]
    return [one for one in found if one.samples]
