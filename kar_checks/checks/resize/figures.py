"""The trace of a resize: what was asked for, what the status told, what the kernel held."""

from __future__ import annotations

from datetime import datetime

from kar_checks.checks.resize import kernel as rules
from kar_checks.checks.resize.observation import Case, Kernel, Resources
from kar_checks.checks.resize.plans import Plan
from kar_checks.cluster import quantity
from kar_checks.model import Figure, Mark, Series

_MIB = 1 << 20


def figure(plan: Plan, case: Case) -> Figure:
    """Return the figure of a case; a value that was not seen leaves no point."""
    part, resource = plan.shows
    container = next(iter(plan.steps[0].change)) if plan.steps else plan.containers[0].name
    begin = case.start.look.at
    end = begin
    wanted: list[tuple[float, float]] = []
    told: list[tuple[float, float]] = []
    marks: list[Mark] = []

    def seconds(at: datetime) -> float:
        return round(max(0.0, (at - begin).total_seconds()), 2)

    def note(line: list[tuple[float, float]], at: datetime, held: Resources | None) -> None:
        value = _amount(held, part, resource)
        if value is not None and (not line or line[-1][1] != value):
            line.append((seconds(at), value))

    states = [case.start.look, *(one for step in case.steps for one in step.looks)]
    states += [*case.hold.looks, case.hold.end.look] if case.hold else []
    for look in sorted(states, key=lambda one: one.at):
        note(wanted, look.at, look.containers[container].spec)
        note(told, look.at, look.containers[container].status)
        end = max(end, look.at)
    for step in case.steps:
        marks.append(Mark(at=seconds(step.patch.at), label=f"sent: {step.name}"))
        if step.settled:
            marks.append(Mark(at=seconds(step.looks[-1].at), label="settled"))
        end = max(end, step.after.look.at if step.after else step.patch.at)
    held: list[tuple[float, float]] = []
    for at, kernel in case.kernel_trace.get(container, []):
        value = _kernel_amount(kernel, part, resource)
        if value is not None and (not held or held[-1][1] != value):
            held.append((seconds(at), value))
    length = seconds(end)
    lines = {"asked for (spec)": wanted, "reported (status)": told, "in the kernel": held}
    return Figure(
        kind="trace",
        title=f"{plan.name.replace('_', ' ')}: {resource} {part}",
        checks=[plan.check],
        unit="MiB" if resource == "memory" else "millicores",
        seconds=length,
        series=[
            Series(name=name, points=[*line, (length, line[-1][1])], stepped=True)
            for name, line in lines.items()
            if line
        ],
        marks=marks,
    )


def _amount(held: Resources | None, part: str, resource: str) -> float | None:
    text = (held or {}).get(part, {}).get(resource)
    if text is None:
        return None
    return quantity.mebibytes(text) if resource == "memory" else quantity.millicores(text)


def _kernel_amount(kernel: Kernel, part: str, resource: str) -> float | None:
    try:
        if part == "limits" and resource == "memory":
            held = rules.memory_limit(kernel)
            return None if held is None else held / _MIB
        if part == "limits":
            return rules.cpu_limit(kernel)
        if resource == "cpu" and kernel.version == "v1":
            return round(rules.cpu_weight(kernel) * 1000 / 1024)
    except rules.NotObservableError:
        return None
    return None
