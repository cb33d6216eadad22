"""What building each program takes when nothing is cached, to order builds and to foretell them."""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from localcluster.gobuild import GoBuild


@dataclass(frozen=True)
class Cost:
    """Processor seconds, and megabytes of the compiled packages and of the downloaded modules.

    As measured after the builds before it in `COSTS`: packages and modules that programs have in
    common belong to the first.
    """

    cpu_seconds: float
    compiled_mb: int
    modules_mb: int

    def plus(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(
            self.cpu_seconds + other.cpu_seconds,
            self.compiled_mb + other.compiled_mb,
            self.modules_mb + other.modules_mb,
        )


#: Estimated for a virtual machine of two cores with Go 1.26.8, from builds timed one by one
#: (2026-11-25), of which packages in common were taken off. The longest first.
COSTS = {
    "kubernetes": Cost(570, 3000, 1100),
    "dranet": Cost(190, 1000, 150),
    "envoy-gateway": Cost(150, 900, 500),
    "containerd": Cost(85, 500, 150),
    "coredns": Cost(25, 120, 60),
    "helm": Cost(25, 100, 40),
    "epp": Cost(20, 90, 60),
    "inference-extension": Cost(6, 30, 0),
    "pause": Cost(1, 5, 0),
    "admission-secret": Cost(2, 10, 0),
}
#: Of what programs have in common with Kubernetes, for the first one that is built when Go's cache
#: of compiled packages is empty and Kubernetes itself is not built.
COMMON = Cost(250, 1500, 500)
#: Of what is not in the table: the usual add-on, in versions of its own.
USUAL = Cost(160, 900, 250)
#: A program, its image, and the image once more on each of three nodes.
PROGRAM_MB = 150
#: The processor seconds that `reference_work` took there.
REFERENCE_SECONDS = 0.066


def cost(build: GoBuild) -> Cost:
    """What a build takes after those before it in the table."""
    return COSTS.get(build.name, USUAL)


def costs(builds: Sequence[GoBuild], *, empty: bool) -> dict[str, Cost]:
    """What each of these builds takes, in this order; `empty` says that nothing is compiled yet."""
    found = {one.name: cost(one) for one in builds}
    if empty and found and "kubernetes" not in found:
        first = builds[0].name
        found[first] = found[first].plus(COMMON)
    return found


def longest_first(builds: Iterable[GoBuild]) -> list[GoBuild]:
    """The builds in the order in which they should be begun."""
    return sorted(builds, key=lambda one: -cost(one).cpu_seconds)


def disk_mb(costs: Collection[Cost]) -> int:
    """The disk that builds take, in MB."""
    return sum(one.compiled_mb + one.modules_mb + PROGRAM_MB for one in costs)


def slowness(repeats: int = 3) -> float:
    """How many times slower a processor of this machine is than that of the table.

    Counts the time that the work itself gets, so that other work on the machine does not matter.
    """
    took = min(_reference_work() for _ in range(repeats))
    return took / REFERENCE_SECONDS


def _reference_work() -> float:
    begin = time.process_time()
    numbers: dict[int, int] = {}
    for one in range(300_000):
        numbers[one * 7919 % 65_536] = one
        sum(divmod(one, 7))
    return time.process_time() - begin
