"""The gateway trial: one Gateway of each class, two backends, and a route for every question.

All questions are asked at once, each on a host name of its own; what is timed comes when what is
counted is over. An answer counts only if it names the backend that gave it, and the backends' own
counts are kept beside the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import yaml

from kar_checks.checks.gateway import measures
from kar_checks.checks.gateway.figures import draw
from kar_checks.checks.gateway.observation import (
    Api,
    ClassObservation,
    CrdSeen,
    Feature,
    Features,
    GatewayObservation,
    HeaderRule,
    Phase,
    Reach,
    Routes,
    Sent,
    Slow,
    Stream,
    Streaming,
    Unmatched,
    Weights,
)
from kar_checks.checks.ingress.records import told
from kar_checks.checks.ingress.site import PORT, Site, classes, conditions
from kar_checks.checks.ingress.site import manifests as site_manifests
from kar_checks.checks.trial import Trial
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.model import Evidence, Fault, Record
from kar_checks.store import now

TOPIC = "gateway"
CRDS = ("gatewayclasses", "gateways", "httproutes")
"""Those that must be there; the others of the bundle are recorded."""
OTHER_CRDS = ("grpcroutes", "referencegrants")
MESHES = ("networking.istio.io", "policy.linkerd.io", "kuma.io", "consul.hashicorp.com")
BLUE, GREEN = "gateway-blue", "gateway-green"
FIRST_WEIGHTS = {BLUE: 80, GREEN: 20}
SECOND_WEIGHTS = {BLUE: 20, GREEN: 80}
SPECIAL = "x-kar-model"
EVENTS, EVENT_SECONDS = 8, 0.5
_COMPLETION = '{"model": "kar-model", "prompt": "{r}", "stream": %s}'
_WITHOUT_TRAFFIC = {"gateway.api", "gateway.class_accepted"}
_SLACK_SECONDS = 30
"""What the timeout of the route with the long answer, and who waits for it, give it beside."""
_TIMEOUT_SECONDS = 1
_SLOW_SECONDS = 6
"""How slow a backend is that a timeout must cut: far from the timeout, so that no noise matters."""


def run(trial: Trial) -> GatewayObservation:
    """Measure every class.

    That the backends or the client could not be started is a fault of every class.
    """
    started = now()
    served = trial.facts.serves(kinds.GATEWAY.group, kinds.GATEWAY.version, kinds.GATEWAY.plural)
    api = _api(trial) if "gateway.api" in trial.selected else None
    found = classes(trial) if served and trial.selected != {"gateway.api"} else {}
    site = Site(trial, TOPIC)
    seen: dict[str, ClassObservation | Fault] = {}
    if found:
        with ThreadPoolExecutor(max_workers=1) as pool:
            servers = _serve(site, pool) if trial.selected - _WITHOUT_TRAFFIC else None
            seen = trial.side_by_side(
                {
                    name: partial(_assess, site, name, stored, servers)
                    for name, stored in found.items()
                }
            )
    return GatewayObservation(
        trial=TOPIC,
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        figures=draw(seen, site.addresses, trial.number("gateway.confidence")),
        measures=measures.of(seen),
        served=served,
        api=api,
        wanted=trial.profile.text("gateway.class"),
        classes=seen,
    )


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each kind, for dry runs; what needs the Gateway API is not among them."""
    return site_manifests(target, TOPIC)


def _api(trial: Trial) -> Api:
    groups = {group for group, _, _ in trial.facts.served}
    return Api(
        crds=[_crd(trial, name) for name in (*CRDS, *OTHER_CRDS)],
        mesh=sorted(one for one in groups if one.endswith(MESHES)),
    )


def _crd(trial: Trial, plural: str) -> CrdSeen:
    name = f"{plural}.{kinds.GATEWAY.group}"
    stored = trial.cluster.find(kinds.CRD, name)
    if stored is None:
        return CrdSeen(name=name, present=False)
    notes: Object = stored["metadata"].get("annotations") or {}
    said = {one.type: one.status for one in conditions(stored, stored.get("status") or {})}
    return CrdSeen(
        name=name,
        present=True,
        established=said.get("Established") == "True" and said.get("NamesAccepted") == "True",
        served=[str(one["name"]) for one in stored["spec"]["versions"] if one.get("served")],
        bundle_version=str(notes.get("gateway.networking.k8s.io/bundle-version", "")),
        channel=str(notes.get("gateway.networking.k8s.io/channel", "")),
    )


def _serve(site: Site, pool: ThreadPoolExecutor) -> Future[None]:
    """Begin to start backends and client; Services come first, so that routes find them."""
    for name in (BLUE, GREEN):
        site.expose(name, {"kar-checks.dev/server": name})
    return pool.submit(site.start, {BLUE: {}, GREEN: {}})


def _assess(
    site: Site, name: str, stored: Object, servers: Future[None] | None
) -> ClassObservation:
    said = conditions(stored, stored.get("status") or {})
    accepted = next((one for one in said if one.type == "Accepted"), None)
    features: list[Object | str] = (stored.get("status") or {}).get("supportedFeatures") or []
    seen = ClassObservation(
        controller=str((stored.get("spec") or {}).get("controllerName", "")),
        accepted=accepted,
        features=sorted(str(one if isinstance(one, str) else one.get("name")) for one in features),
    )
    if servers is None or accepted is None or not accepted.holds:
        return seen
    # Routes come before the Gateway is ready, as they do where somebody applies one file; proxy
    # and backends start at the same time.
    asked = _Questions(site, site.gateway(name), seen)
    counted, timed, slow = asked.counted(), asked.timed(), asked.slow()
    ready = site.await_gateway(asked.gateway)
    seen = seen.model_copy(update={"gateway": ready})
    if ready.programmed:
        servers.result()
        asked.address = ready.address
        with ThreadPoolExecutor(max_workers=1) as pool:
            waiting = pool.submit(_measure, site, name, slow)
            parts = _measure(site, name, counted) | _measure(site, name, timed) | waiting.result()
        seen = seen.model_copy(update=parts)
    site.trial.evidence(f"{asked.gateway}.yaml", asked.as_stored(stored))
    return seen


def _measure(
    site: Site, name: str, work: dict[str, Callable[[], Record]]
) -> dict[str, Record | Fault]:
    """Measure parts of a class at once, and return them by their names in its observation."""
    done = site.trial.side_by_side({f"{name}-{part}": one for part, one in work.items()})
    return {key.removeprefix(f"{name}-"): value for key, value in done.items()}


class _Questions:
    """The routes of one Gateway, and what is asked over each."""

    def __init__(self, site: Site, gateway: str, seen: ClassObservation) -> None:
        self.site = site
        self.gateway = gateway
        self.seen = seen
        self.address = ""
        self.routes: list[str] = []

    def counted(self) -> dict[str, Callable[[], Record]]:
        """Create the routes of the selected questions about counts, and return what asks them."""
        makers: dict[str, tuple[str, Callable[[], Callable[[], Record]]]] = {
            "reach": ("gateway.programmed", self._reach),
            "routes": ("gateway.route_status", self._routes),
            "weights": ("gateway.weighted_split", self._weights),
            "headers": ("gateway.header_rule", self._headers),
            "unmatched": ("gateway.unmatched", self._unmatched),
            "claims": ("gateway.claimed_features", self._claims),
        }
        return {
            part: make()
            for part, (check, make) in makers.items()
            if check in self.site.trial.selected
        }

    def timed(self) -> dict[str, Callable[[], Record]]:
        """Do the same for streams: nothing else may be busy while their events are timed."""
        if "gateway.streaming" not in self.site.trial.selected:
            return {}
        self._route("stream", {"backendRefs": [_to(BLUE)]})
        return {"streaming": self._ask_streaming}

    def slow(self) -> dict[str, Callable[[], Record]]:
        """Do the same for the large body and the long answer, whose route says how long it has."""
        if "gateway.streaming" not in self.site.trial.selected:
            return {}
        limit = f"{round(self._long_seconds() + _SLACK_SECONDS)}s"
        try:
            self._route("slow", {"backendRefs": [_to(BLUE)], "timeouts": {"request": limit}})
        except ApiError as error:
            return {"slow": partial(_refused, error.server_message)}
        return {"slow": self._ask_slow}

    def as_stored(self, gateway_class: Object) -> str:
        """Return the class, its Gateway and the routes with what was said about them, as YAML."""
        get, namespace = self.site.trial.cluster.get, self.site.trial.namespace
        objects = [get(kinds.GATEWAY, self.gateway, namespace)]
        objects += [get(kinds.HTTP_ROUTE, one, namespace) for one in self.routes]
        for one in (gateway_class, *objects):
            one["metadata"].pop("managedFields", None)
        return yaml.safe_dump_all([gateway_class, *objects], sort_keys=False)

    def _route(self, name: str, *rules: Object) -> str:
        made = self.site.route(self.gateway, name, _host(name), rules)
        self.routes.append(made)
        return made

    def _reach(self) -> Callable[[], Reach]:
        self._route("reach", {"backendRefs": [_to(BLUE)]})

        def ask() -> Reach:
            settled = self.site.settle(self.address, _host("reach"), "/")
            return Reach(settled=settled, gateway=self.site.look(self.gateway, 0))

        return ask

    def _routes(self) -> Callable[[], Routes]:
        good = self._route("good", {"backendRefs": [_to(BLUE)]})
        bad = self._route("bad", {"backendRefs": [_to("gateway-missing")]})

        def ask() -> Routes:
            both = [
                self.site.parents(
                    kinds.HTTP_ROUTE, one, self.seen.controller, "Accepted", "ResolvedRefs"
                )
                for one in (good, bad)
            ]
            return Routes(good=both[0], bad=both[1])

        return ask

    def _weights(self) -> Callable[[], Weights]:
        route = self._route("weights", _split(FIRST_WEIGHTS, "1"))
        return partial(self._measure_weights, route)

    def _measure_weights(self, route: str) -> Weights:
        """Measure, swap, measure; each answer carries the revision of the rule that it came by."""
        phases: list[Phase] = []
        for revision, weights in (("1", FIRST_WEIGHTS), ("2", SECOND_WEIGHTS)):
            if phases:
                self.site.change_rules(route, [_split(weights, revision)])
            settled = self.site.settle(self.address, _host("weights"), "/", revision=revision)
            phase = Phase(weights=weights, settled=settled)
            if settled.settled:
                count = int(self.site.trial.number("gateway.requests"))
                sample = self.site.sample(self.address, _host("weights"), "/", count)
                phase = phase.model_copy(update={"sample": sample})
            phases.append(phase)
            if not settled.settled:
                break
        return Weights(phases=phases)

    def _headers(self) -> Callable[[], HeaderRule]:
        match: Object = {"headers": [{"name": SPECIAL, "value": "special"}]}
        self._route(
            "headers",
            {"matches": [match], "backendRefs": [_to(GREEN)]},
            {"backendRefs": [_to(BLUE)]},
        )
        return self._ask_headers

    def _ask_headers(self) -> HeaderRule:
        host = _host("headers")
        special = {SPECIAL: "special"}
        count = int(self.site.trial.number("gateway.rule_requests"))
        settled = self.site.settle(self.address, host, "/", headers=special)
        seen = HeaderRule(settled=settled, special=GREEN, default=BLUE)
        if not settled.settled:
            return seen
        ask = partial(self.site.sample, self.address, host, "/", count)
        return seen.model_copy(
            update={
                "matching": ask(headers=special),
                "without": ask(),
                "other_value": ask(headers={SPECIAL: "specialist"}),
            }
        )

    def _unmatched(self) -> Callable[[], Unmatched]:
        path: Object = {"path": {"type": "PathPrefix", "value": "/served"}}
        self._route("paths", {"matches": [path], "backendRefs": [_to(BLUE)]})
        return self._ask_unmatched

    def _ask_unmatched(self) -> Unmatched:
        count = int(self.site.trial.number("gateway.rule_requests"))
        settled = self.site.settle(self.address, _host("paths"), "/served")
        seen = Unmatched(settled=settled)
        if not settled.settled:
            return seen
        return seen.model_copy(
            update={
                "path": self.site.sample(self.address, _host("paths"), "/unserved", count),
                "host": self.site.sample(self.address, _host("nobody"), "/served", count),
            }
        )

    def _ask_streaming(self) -> Streaming:
        host = _host("stream")
        seen = Streaming(settled=self.site.settle(self.address, host, "/"), expected=EVENTS)
        if not seen.settled.settled:
            return seen
        work = {
            "direct": partial(self._stream, self.site.addresses[BLUE], PORT, "", inside=True),
            "through": partial(self._stream, self.address, 80, host),
        }
        with ThreadPoolExecutor(max_workers=len(work)) as pool:
            running = {name: pool.submit(one) for name, one in work.items()}
        return seen.model_copy(update={name: one.result() for name, one in running.items()})

    def _stream(self, address: str, port: int, host: str, *, inside: bool = False) -> Stream:
        done = self.site.do(
            {
                "do": "stream",
                "address": address,
                "port": port,
                "host": host,
                "path": "/v1/completions",
                "body": _COMPLETION.replace("{r}", "tell me") % "true",
                "headers": {
                    "content-type": "application/json",
                    "x-kar-events": str(EVENTS),
                    "x-kar-interval": str(EVENT_SECONDS),
                },
                "timeout": 30,
            },
            EVENTS * EVENT_SECONDS,
            inside=inside,
        )
        return Stream(
            status=done["status"], events=done["events"], error=str(done.get("error", ""))
        )

    def _ask_slow(self) -> Slow:
        host = _host("slow")
        settled = self.site.settle(self.address, host, "/")
        if not settled.settled:
            return Slow(why_not=f"the route never answered: {told(settled.last)}")
        size = int(self.site.trial.number("gateway.body_mib") * 2**20)
        seconds = self._long_seconds()
        long: Object = {
            "headers": {"x-kar-delay": str(seconds)},
            "timeout": seconds + _SLACK_SECONDS,
        }
        return Slow(
            sent=[
                self._send(f"body of {size / 2**20:g} MiB", host, size, 30, {"timeout": 30}),
                self._send(f"answer after {seconds:g} s", host, 0, seconds, long),
            ]
        )

    def _long_seconds(self) -> float:
        return self.site.trial.number("gateway.long_answer_seconds")

    def _send(self, what: str, host: str, size: int, seconds: float, more: Object) -> Sent:
        task: Object = {
            "do": "send",
            "address": self.address,
            "port": 80,
            "host": host,
            "path": "/echo",
            "bytes": size,
            **more,
        }
        return Sent(what=what, sent=size, **self.site.do(task, seconds))

    # -- what the class claims --------------------------------------------------------------

    def _claims(self) -> Callable[[], Features]:
        cut = f"{_TIMEOUT_SECONDS}s"
        rules: dict[str, Object] = {
            "HTTPRouteRequestTimeout": {"timeouts": {"request": cut}},
            "HTTPRouteBackendTimeout": {"timeouts": {"backendRequest": cut}},
            "HTTPRouteRequestMirror": {
                "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": _to(GREEN)}}]
            },
            "HTTPRouteRetry": {"retry": {"codes": [503], "attempts": 2, "backoff": "100ms"}},
        }
        claimed = [one for one in rules if one in self.seen.features]
        refused: dict[str, str] = {}
        for one in claimed:
            try:
                self._route(_feature_host(one), {"backendRefs": [_to(BLUE)], **rules[one]})
            except ApiError as error:
                refused[one] = error.server_message
        return partial(self._try_claims, claimed, refused)

    def _try_claims(self, claimed: list[str], refused: dict[str, str]) -> Features:
        tries = {
            f"{self.gateway}-{one}": partial(self._try, one)
            for one in claimed
            if one not in refused
        }
        done = self.site.trial.side_by_side(tries)
        tried = [
            Feature(name=one, works=None, seen=f"the API server refused the route: {why[:200]}")
            for one, why in refused.items()
        ]
        for key, one in done.items():
            name = key.removeprefix(f"{self.gateway}-")
            if isinstance(one, Fault):
                one = Feature(name=name, works=None, seen=one.message)
            tried.append(one)
        return Features(claimed=claimed, tried=tried)

    def _try(self, name: str) -> Feature:
        host = _host(_feature_host(name))
        settled = self.site.settle(self.address, host, "/")
        if not settled.settled:
            return Feature(
                name=name, works=None, seen=f"the route never answered: {told(settled.last)}"
            )
        if name == "HTTPRouteRequestMirror":
            return self._try_mirror(name, host)
        if name == "HTTPRouteRetry":
            return self._try_retry(name, host)
        return self._try_timeout(name, host)

    def _try_timeout(self, name: str, host: str) -> Feature:
        done = self.site.do(
            {
                "do": "send",
                "address": self.address,
                "port": 80,
                "host": host,
                "path": "/",
                "timeout": _SLOW_SECONDS + 10,
                "headers": {"x-kar-delay": str(_SLOW_SECONDS)},
            },
            _SLOW_SECONDS + 10,
        )
        cut = done["status"] == 504 and done["seconds"] < _SLOW_SECONDS
        return Feature(
            name=name,
            works=cut,
            seen=f"a timeout of {_TIMEOUT_SECONDS} s and a backend that takes {_SLOW_SECONDS} s: "
            f"status {done['status']} after {done['seconds']:.1f} s",
        )

    def _try_mirror(self, name: str, host: str) -> Feature:
        count = 20
        sample = self.site.sample(self.address, host, "/", count)
        blue, mirrored = sample.good(pod=BLUE), sample.counted[GREEN]
        return Feature(
            name=name,
            works=blue == count and mirrored == count,
            seen=f"of {count} requests {blue} were answered by {BLUE}, and {mirrored} copies "
            f"arrived at {GREEN}",
        )

    def _try_retry(self, name: str, host: str) -> Feature:
        sample = self.site.sample(self.address, host, "/", 1, headers={"x-kar-fail-first": "yes"})
        return Feature(
            name=name,
            works=sample.good() == 1 and sample.counted[BLUE] == 2,
            seen=f"a backend that fails once: {told(sample.tallies)} after "
            f"{sample.counted[BLUE]} attempts",
        )


def _host(name: str) -> str:
    return f"{name}.kar-checks.test"


def _feature_host(name: str) -> str:
    return name.removeprefix("HTTPRoute").lower()


def _to(name: str, **more: object) -> Object:
    return {"name": name, "port": PORT, **more}


def _split(weights: dict[str, int], revision: str) -> Object:
    return {
        "filters": [
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-kar-revision", "value": revision}]},
            }
        ],
        "backendRefs": [_to(name, weight=weight) for name, weight in weights.items()],
    }


def _refused(why: str) -> Slow:
    return Slow(why_not=f"the API server refused a route with a timeout: {why[:200]}")
