"""The routing trial: servers whose load can be set, pools before them, and counted picks.

What is changed is only what the servers report; what is counted is who answers. So a difference
between phases has one cause. Classes are assessed one after the other, for they share the servers.

While a change converges, a steady client asks over the pool: an outage between samples is seen.
"""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kar_checks.checks.routing import measures
from kar_checks.checks.routing.figures import draw
from kar_checks.checks.routing.observation import (
    Adapters,
    ClassObservation,
    Failure,
    Load,
    Phase,
    Prefixes,
    RoutingObservation,
    Status,
    Unready,
)
from kar_checks.checks.routing.picker import Picker, deploy
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.http_testbed.records import Sample, Settled, Surroundings
from kar_checks.kit.http_testbed.site import (
    COMPLETION,
    PATH,
    PORT,
    Site,
    accepted,
    classes,
    pools_served,
)
from kar_checks.kit.http_testbed.site import manifests as site_manifests
from kar_checks.kit.http_testbed.steady import Steady, Watch, watch, watched
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Evidence, Fault, Reason
from kar_checks.store import now

TOPIC = "routing"
SERVERS = ("routing-a", "routing-b", "routing-c")
BUILT_IN = "built-in"
IDLE: Object = {
    "waiting": 0,
    "running": 0,
    "kv": 0.0,
    "delay": 0.0,
    "ready": True,
    "adapters": [],
}
LOADED: Object = {"waiting": 90, "running": 16, "kv": 0.9}
SLOW: Object = {"delay": 2.0}
ADAPTER = "kar-adapter"
HAS_ADAPTER: Object = {"adapters": [ADAPTER]}
_POOL = {"kar-checks.dev/pool": "routing"}
_PLAIN = "routing-plain"
"""A Service before the same servers; its route is the control where a pool is to refuse."""
_UNIQUE = str(COMPLETION["body"])
_ADAPTED = _UNIQUE.replace("kar-model", ADAPTER)
_LONG = '{"model": "kar-model", "prompt": "{p} {n}", "max_tokens": 4}'
_CONTROL_REQUESTS = 60
_FEW = 20
PREFIXES, REPEATS = 8, 18
_WATCH_SECONDS = 10.0
_HELD_RATE = 50
_HELD_REQUESTS = 150


def run(trial: Trial) -> RoutingObservation:
    """Measure every class.

    Raises:
        HarnessError: the servers or the client could not be started.
    """
    started = now()
    profile = trial.profile
    built_in = profile.text("routing.picker") == BUILT_IN
    picker = BUILT_IN if built_in else profile.text("routing.picker_image")
    served = pools_served(trial)
    found = classes(trial) if served else {}
    seen: dict[str, ClassObservation | Fault] = {}
    around: Surroundings | None = None
    if found:
        site = Site(trial, TOPIC)
        site.expose(_PLAIN, _POOL)
        site.start(dict.fromkeys(SERVERS, _POOL))
        for name, stored in found.items():
            seen |= trial.side_by_side({name: partial(_assess, site, name, stored, built_in)})
        with contextlib.suppress(HarnessError):
            around = site.surroundings()
    return RoutingObservation(
        trial=TOPIC,
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=draw(seen, picker, profile.number("routing.confidence")),
        measures=measures.of(seen),
        served=served,
        picker=picker,
        wanted=profile.text("gateway.class"),
        classes=seen,
        around=around,
    )


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each kind, for dry runs; what needs the extension is not among them."""
    return site_manifests(target, TOPIC)


def _assess(site: Site, name: str, stored: Object, built_in: bool) -> ClassObservation:
    seen = ClassObservation(
        controller=str((stored.get("spec") or {}).get("controllerName", "")),
        accepted=accepted(stored),
    )
    if not seen.accepted:
        return seen
    site.states(dict.fromkeys(SERVERS, IDLE))
    place = _Place(site, site.gateway(name), seen.controller, built_in)
    place.build()
    ready = site.await_gateway(place.gateway)
    seen = seen.model_copy(update={"gateway": ready})
    if not ready.programmed:
        return seen
    place.address = ready.address
    settled, others = place.settle()
    seen = seen.model_copy(update={"settled": settled, "others": others})
    parts: dict[str, tuple[str, Callable[[], object]]] = {
        "status": ("routing.pool_status", place.status),
        "load": ("routing.follows_load", place.load),
        "prefixes": ("routing.prefix_affinity", place.prefixes),
        "adapters": ("routing.adapter_affinity", place.adapters),
        "unready": ("routing.avoids_unready", place.unready),
        "steady": ("routing.steady", partial(place.steady, settled)),
        "failure": ("routing.failure_mode", place.failure),
    }
    for part, (check, measure) in parts.items():
        wanted = check in site.trial.selected and (settled.settled or part == "status")
        if wanted and not (part == "failure" and built_in):
            try:
                seen = seen.model_copy(update={part: measure()})
            except HarnessError as error:
                seen = seen.model_copy(update={part: error.fault})
    return seen


class _Place:
    """The pools and routes of one Gateway, with their picker."""

    def __init__(self, site: Site, gateway: str, controller: str, built_in: bool) -> None:
        self.site = site
        self.trial = site.trial
        self.gateway = gateway
        self.controller = controller
        self.built_in = built_in
        self.address = ""
        self.watches: list[Watch] = []
        self.picker: Picker | None = None
        seed = self.trial.profile.text("routing.seed") or secrets.token_hex(4)
        self.seed = seed
        self.chance = random.Random(seed)  # noqa: S311 - it must be repeatable

    def build(self) -> None:
        """Make pools, picker and routes."""
        self.site.route(
            self.gateway,
            "plain",
            _host("plain"),
            [{"backendRefs": [{"name": _PLAIN, "port": PORT}]}],
        )
        pool = f"{self.gateway}-pool"
        picker = f"{self.gateway}-picker"
        self._pool("close", pool, picker, "FailClose")
        if self.built_in:
            # Who picks by itself does not ask it, but the API wants a picker to be named.
            self.site.expose(picker, _POOL)
        else:
            self._pool("open", f"{self.gateway}-open", picker, "FailOpen")
            self._pool("lost", f"{self.gateway}-lost", f"{self.gateway}-missing", "FailClose")
            self.picker = deploy(self.trial, picker, pool)

    def _pool(self, host: str, name: str, picker: str, failure_mode: str) -> None:
        self.trial.workspace.create(
            kinds.INFERENCE_POOL,
            manifest(
                "routing/pool.yaml.j2",
                name=name,
                selector=_POOL,
                port=PORT,
                picker=picker,
                failure_mode=failure_mode,
            ),
        )
        backend: Object = {
            "group": kinds.INFERENCE_POOL.group,
            "kind": kinds.INFERENCE_POOL.kind,
            "name": name,
        }
        self.site.route(self.gateway, host, _host(host), [{"backendRefs": [backend]}])

    def settle(self) -> tuple[Settled, dict[str, Settled]]:
        """Wait until the pool's servers answer steadily, and those of the other routes do."""
        hosts = ["close", "plain", *([] if self.built_in else ["open"])]
        with ThreadPoolExecutor(max_workers=len(hosts)) as threads:
            found = {
                host: threads.submit(self.site.settle, self.address, _host(host), PATH)
                for host in hosts
            }
        others = {host: one.result() for host, one in found.items()}
        return others.pop("close"), others

    def _asking(self, count: int, *, host: str = "close", **task: object) -> Object:
        return {"host": _host(host), "path": PATH, "count": count, "timeout": 15, **task}

    def ask(
        self,
        count: int,
        *,
        host: str = "close",
        more: dict[str, str] | None = None,
        **task: object,
    ) -> Sample:
        """Send completions to a pool, with ``more`` headers."""
        asked = self._asking(count, host=host, headers=more or {}, **task)
        return self.site.samples(self.address, [asked])[0]

    def together(self, *hosts: str) -> list[Sample]:
        """Send a few completions to several hosts at the same time."""
        asked = [self._asking(_FEW, host=host, workers=_FEW) for host in hosts]
        return self.site.samples(self.address, asked, together=True)

    # -- what is said -----------------------------------------------------------------------

    def status(self) -> Status:
        """Read the statuses of the good pool and of the one without a picker."""
        kind = kinds.INFERENCE_POOL
        # The route first: its status says whether there is anything to wait for.
        route = self.site.parents(
            kinds.HTTP_ROUTE, f"{self.gateway}-close", self.controller, "ResolvedRefs"
        )
        wanted = ("Accepted", "ResolvedRefs")
        good = self.site.parents(kind, f"{self.gateway}-pool", self.controller, *wanted)
        seen = Status(good=good, route=route, bad=None)
        if self.built_in:
            return seen
        bad = self.site.parents(kind, f"{self.gateway}-lost", self.controller, "ResolvedRefs")
        traffic, control = self.together("lost", "plain")
        return seen.model_copy(update={"bad": bad, "bad_traffic": traffic, "bad_control": control})

    # -- causes -----------------------------------------------------------------------------

    def load(self) -> Load:
        """Balanced, load on one, load on another, balanced: in random order."""
        first, second = self.chance.sample(SERVERS, 2)
        plan = [("balanced 1", ""), (f"load on {first}", first), (f"load on {second}", second)]
        plan.append(("balanced 2", ""))
        read_before = sum(int(one["scrapes"]) for one in self.site.states().values())
        self.chance.shuffle(plan)
        count = int(self.trial.number("routing.requests"))
        phases = [
            self._phase(name, loaded, LOADED, partial(self.ask, count, workers=4))
            for name, loaded in plan
        ]
        held: list[Phase] = []
        if not any(sum(one.read.values()) for one in phases):
            # Nobody reads: then whoever counts requests in flight must see that one is slow.
            slow = partial(self.ask, _HELD_REQUESTS, rate=_HELD_RATE)
            held = [self._phase(f"slow {name[-1]}", name, SLOW, slow) for name in (first, second)]
        if self.picker:
            self.trial.evidence(f"{self.picker.name}-metrics.txt", self.picker.metrics(self.site))
        self.site.states(dict.fromkeys(SERVERS, IDLE))
        return Load(
            seed=self.seed,
            first=first,
            second=second,
            read_before=read_before,
            phases=phases,
            held=held,
        )

    def _phase(self, name: str, loaded: str, load: Object, ask: Callable[[], Sample]) -> Phase:
        self.trial.report(f"{self.gateway}: {name}")
        before = self.site.states(
            {one: {**IDLE, **(load if one == loaded else {})} for one in SERVERS}
        )
        self._converge()
        picks = self.picker.decisions(self.site) if self.picker else None
        sample = ask()
        later = self.picker.decisions(self.site) if self.picker else None
        after = self.site.states()
        return Phase(
            name=name,
            loaded=loaded,
            sample=sample,
            decisions=None if picks is None or later is None else later - picks,
            read={one: after[one]["scrapes"] - before[one]["scrapes"] for one in SERVERS},
            read_after={one: after[one]["scraped_after_seconds"] for one in SERVERS},
        )

    def _converge(self) -> None:
        """Give the picker the stated time; nothing that could be watched tells what it knows."""
        seconds = self.trial.number("routing.convergence_seconds")
        if "routing.steady" in self.trial.selected:
            self._watch(seconds)
        elif self.trial.cluster.stopping.wait(seconds):
            raise HarnessError(Reason.INTERRUPTED, "interrupted")

    def _watch(self, seconds: float) -> None:
        """Ask over the pool at a steady rate, beside all counts of picks."""
        rate = self.trial.number("gateway.steady_rate")
        task: Object = {
            **COMPLETION,
            **self._asking(max(1, round(seconds * rate))),
            "do": "ask",
            "address": self.address,
            "port": 80,
            "rate": rate,
            "fresh": True,
        }
        done = self.site.do(task, seconds)
        self.watches.append(watch(done["began"], rate, done["answers"]))

    def steady(self, settled: Settled) -> Steady:
        """Return what was seen while changes converged, and go on until it is long enough."""
        wanted = self.trial.number("gateway.steady_seconds")
        while (left := wanted - sum(map(watched, self.watches))) > 0:
            self._watch(min(left + 1, _WATCH_SECONDS))
            if self.trial.cluster.stopping.is_set():
                raise HarnessError(Reason.INTERRUPTED, "interrupted")
        return Steady(settled=settled, watches=self.watches)

    def prefixes(self) -> Prefixes:
        """Send long prefixes, each once and then several times."""
        self._converge()
        ask = partial(
            self.ask, body=_LONG, prefix=self.seed, groups=PREFIXES, more={"x-kar-revision": "{k}"}
        )
        return Prefixes(
            declared=self.picker is not None and self.picker.declares_prefix,
            first=ask(PREFIXES),
            repeats=ask(PREFIXES * REPEATS),
        )

    def adapters(self) -> Adapters:
        """Report an adapter on one server and then on another, and ask for it."""
        ask = partial(
            self.ask, int(self.trial.number("routing.requests")), body=_ADAPTED, workers=4
        )
        seen = Adapters(
            declared=self.picker is not None and self.picker.declares_adapters,
            phases=[
                self._phase(f"adapter on {one}", one, HAS_ADAPTER, ask)
                for one in self.chance.sample(SERVERS, 2)
            ],
        )
        self.site.states(dict.fromkeys(SERVERS, IDLE))
        return seen

    def unready(self) -> Unready:
        """Take the readiness of one server away, and give it back."""
        server = self.chance.choice(SERVERS)
        before = self.ask(_CONTROL_REQUESTS)
        self._ready(server, False)
        try:
            self._converge()
            meanwhile = self.ask(_CONTROL_REQUESTS)
        finally:
            self._ready(server, True)
        return Unready(server=server, before=before, meanwhile=meanwhile)

    def _ready(self, server: str, on: bool) -> None:
        pod = self.trial.cluster.get(kinds.POD, server, self.trial.namespace)
        self.site.states({server: {"ready": on}})
        self.trial.wait_pod(pod, lambda stored: pods.ready(stored) is on, seconds=30)

    def failure(self) -> Failure:
        """Take the picker away: the last part, for it does not come back."""
        picker = self.picker
        if picker is None:
            raise HarnessError(Reason.INTERNAL, "there is no picker to take away")
        seen = Failure(
            picker=picker.name,
            gone=False,
            close_before=self.ask(_FEW),
            open_before=self.ask(_FEW, host="open"),
        )
        gone = self.trial.workspace.delete(kinds.POD, picker.name)
        if self.trial.cluster.stopping.wait(self.trial.number("routing.convergence_seconds")):
            raise HarnessError(Reason.INTERRUPTED, "interrupted")
        still = self.trial.cluster.find(kinds.POD, picker.name, self.trial.namespace)
        closed, opened, control = self.together("close", "open", "plain")
        return seen.model_copy(
            update={
                "gone": gone and still is None,
                "close_after": closed,
                "open_after": opened,
                "control_after": control,
            }
        )


def _host(name: str) -> str:
    return f"{name}.kar-checks.test"
