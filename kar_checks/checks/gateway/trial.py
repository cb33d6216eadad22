"""The gateway trial: one Gateway of each class, two backends, and a route for every question.

All questions are asked at once, each on a host name of its own; what is timed comes when what is
counted is over. Meanwhile a steady client asks over a route that stays as it is. Whatever is
counted is asked by POST with a body in JSON, as inference is. An answer counts only if it names the
backend that gave it, and the backends' own counts are kept beside the client's.

Each route is waited for once, when it was made or changed; later nobody waits until it is good.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import yaml

from kar_checks.checks.gateway import measures
from kar_checks.checks.gateway.figures import draw
from kar_checks.checks.gateway.observation import (
    Api,
    Audited,
    Bodies,
    Cased,
    ClassObservation,
    CrdSeen,
    Delivery,
    Feature,
    Features,
    GatewayObservation,
    HeaderRule,
    Phase,
    Reach,
    Repeat,
    Routes,
    Sent,
    Slow,
    Stream,
    Streaming,
    Unmatched,
    Weights,
    posts,
)
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.http_testbed.records import Settled, Surroundings, told
from kar_checks.kit.http_testbed.site import (
    COMPLETION,
    PATH,
    PORT,
    Site,
    classes,
    conditions,
    logical,
)
from kar_checks.kit.http_testbed.site import manifests as site_manifests
from kar_checks.kit.http_testbed.steady import Steady
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Fault, Reason, Record
from kar_checks.store import now

TOPIC = "gateway"
CRDS = ("gatewayclasses", "gateways", "httproutes")
"""Those that must be there; the others of the bundle are recorded."""
OTHER_CRDS = ("grpcroutes", "referencegrants")
MESHES = ("networking.istio.io", "policy.linkerd.io", "kuma.io", "consul.hashicorp.com")
BLUE, GREEN = "gateway-blue", "gateway-green"
FIRST_WEIGHTS = {BLUE: 80, GREEN: 20}
SECOND_WEIGHTS = {BLUE: 20, GREEN: 80}
SPECIAL, FLAVOUR = ("x-kar-model", "special"), ("X-Kar-Flavour", "Special")
"""Header and value of a rule each, one in small letters and one in mixed ones."""
EVENTS, EVENT_SECONDS = 12, 0.3
STREAMS = 2
_STREAM_BODY = '{"model": "kar-model", "prompt": "tell me", "stream": true}'
_PLAIN_REQUESTS = 10
_DELIVERED = 200
_LATE_SECONDS = 2.0
"""So long after the last request repeats of it are waited for."""
_MOST_REPEATS = 20
_SMALL_BODIES = (1024, 65537, 2**20 + 1)
"""A common prompt, and the sizes just above which buffers and limits of gateways are."""
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
    around: Surroundings | None = None
    if found:
        with ThreadPoolExecutor(max_workers=1) as pool:
            servers = _serve(site, pool) if trial.selected - _WITHOUT_TRAFFIC else None
            seen = trial.side_by_side(
                {
                    name: partial(_assess, site, name, stored, servers)
                    for name, stored in found.items()
                }
            )
        with contextlib.suppress(HarnessError):
            around = site.surroundings() if site.addresses else None
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
        around=around,
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
        seen = seen.model_copy(update=_ask_all(asked, name, counted, timed, slow))
    site.trial.evidence(f"{asked.gateway}.yaml", asked.as_stored(stored))
    return seen


Work = dict[str, Callable[[], Record]]


def _ask_all(
    asked: _Questions, name: str, counted: Work, timed: Work, slow: Work
) -> dict[str, Record | Fault]:
    """Ask everything while the steady client asks, and count at last how often each POST came."""
    site = asked.site
    with ThreadPoolExecutor(max_workers=3) as pool:
        beside = pool.submit(_measure, site, name, asked.steady)
        if asked.steady:
            asked.watching.wait()
        asked.stream_settled = pool.submit(asked.settle_stream) if timed else None
        waiting = pool.submit(_measure, site, name, slow)
        try:
            parts = _measure(site, name, counted) | _measure(site, name, timed) | waiting.result()
        finally:
            asked.stop()
        parts |= beside.result()
    delivery = parts.get("delivery")
    if isinstance(delivery, Delivery):
        parts |= _measure(site, name, {"delivery": partial(asked.audit, delivery, parts)})
    return parts


def _measure(site: Site, name: str, work: Work) -> dict[str, Record | Fault]:
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
        self.watching = threading.Event()
        """The steady client is about to ask, or will not."""
        self.stream_settled: Future[Settled] | None = None
        self._until = uuid.uuid4().hex
        self.steady: Work = {}
        if "gateway.steady" in site.trial.selected:
            self._route("steady", {"backendRefs": [_to(BLUE), _to(GREEN)]})
            self.steady = {"steady": self._ask_steadily}

    def counted(self) -> Work:
        """Create the routes of the selected questions about counts, and return what asks them."""
        makers: dict[str, tuple[str, Callable[[], Callable[[], Record]]]] = {
            "reach": ("gateway.programmed", self._reach),
            "routes": ("gateway.route_status", self._routes),
            "weights": ("gateway.weighted_split", self._weights),
            "headers": ("gateway.header_rule", self._headers),
            "unmatched": ("gateway.unmatched", self._unmatched),
            "bodies": ("gateway.bodies", self._bodies),
            "delivery": ("gateway.exactly_once", self._delivery),
            "claims": ("gateway.claimed_features", self._claims),
        }
        return {
            part: make()
            for part, (check, make) in makers.items()
            if check in self.site.trial.selected
        }

    def timed(self) -> Work:
        """Do the same for streams: nothing else may be busy while their events are timed."""
        if "gateway.streaming" not in self.site.trial.selected:
            return {}
        self._route("stream", {"backendRefs": [_to(BLUE)]})
        return {"streaming": self._ask_streaming}

    def slow(self) -> Work:
        """Do the same for the long answer, whose route says how long it has."""
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
            settled = self.site.settle(self.address, _host("reach"), PATH)
            counted = self.site.await_routes(self.gateway)
            return Reach(settled=settled, gateway=counted, looked_seconds=counted.seconds)

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
            settled = self.site.settle(self.address, _host("weights"), PATH, revision=revision)
            phase = Phase(weights=weights, settled=settled)
            if settled.settled:
                count = int(self.site.trial.number("gateway.requests"))
                sample = self.site.sample(self.address, _host("weights"), PATH, count)
                phase = phase.model_copy(update={"sample": sample})
            phases.append(phase)
            if not settled.settled:
                break
        return Weights(phases=phases)

    def _headers(self) -> Callable[[], HeaderRule]:
        rules = [
            {
                "matches": [{"headers": [{"name": name, "value": value}]}],
                "backendRefs": [_to(GREEN)],
            }
            for name, value in (SPECIAL, FLAVOUR)
        ]
        self._route("headers", *rules, {"backendRefs": [_to(BLUE)]})
        return self._ask_headers

    def _ask_headers(self) -> HeaderRule:
        host = _host("headers")
        count = int(self.site.trial.number("gateway.rule_requests"))
        headers = dict([SPECIAL])
        settled = self.site.settle(
            self.address, host, PATH, headers={**COMPLETION["headers"], **headers}
        )
        seen = HeaderRule(settled=settled, special=GREEN, default=BLUE)
        if not settled.settled:
            return seen
        cases = [
            (rule, sent, to)
            for rule, turned in ((SPECIAL, str.upper), (FLAVOUR, str.lower))
            for sent, to in (
                ((turned(rule[0]), rule[1]), GREEN),
                ((rule[0], turned(rule[1])), BLUE),
            )
        ]
        wanted: list[tuple[str, str] | None] = [SPECIAL, None, (SPECIAL[0], "specialist")]
        wanted += [sent for _, sent, _ in cases]
        asked: list[Object] = [
            {
                "host": host,
                "path": PATH,
                "count": count,
                "headers": dict([one]) if one else {},
            }
            for one in wanted
        ]
        matching, without, other_value, *cased = self.site.samples(self.address, asked)
        return seen.model_copy(
            update={
                "matching": matching,
                "without": without,
                "other_value": other_value,
                "other_cases": [
                    Cased(rule=": ".join(rule), sent=": ".join(sent), to=to, sample=sample)
                    for (rule, sent, to), sample in zip(cases, cased, strict=True)
                ],
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
        asked: list[Object] = [
            {"host": _host(host), "path": path, "count": count, "workers": 3}
            for host, path in (("paths", "/unserved"), ("nobody", "/served"), ("paths", "/served"))
        ]
        # All at once: a gateway that is out of order refuses what is served, too.
        path, host, served = self.site.samples(self.address, asked, together=True)
        return seen.model_copy(update={"path": path, "host": host, "served": served})

    def _bodies(self) -> Callable[[], Bodies]:
        self._route("bodies", {"backendRefs": [_to(BLUE)]})
        return self._ask_bodies

    def _ask_bodies(self) -> Bodies:
        host = _host("bodies")
        settled = self.site.settle(self.address, host, PATH)
        if not settled.settled:
            return Bodies(settled=settled)
        number = self.site.trial.number
        whole, large = (
            int(number(f"gateway.{name}") * 2**20) for name in ("whole_body_mib", "body_mib")
        )
        sizes = [*(one for one in _SMALL_BODIES if one < whole), whole]
        # The last one is small: it tells what is refused for its size from what is out of order.
        bodies, answers = [(size, 0) for size in sizes], [(0, size) for size in sizes]
        sent = [*bodies, *answers, *bodies, *answers, bodies[0]]
        larger = [(large, 0)] if large > whole else []
        tasks: list[Object] = [
            self._sending(host, bytes=size, answer=answer, timeout=30)
            for size, answer in (*sent, *larger)
        ]
        done = self.site.do({"do": "batch", "tasks": tasks}, 30 * len(tasks))["done"]
        found = [
            Sent(what=_size(size or answer), sent=size, answer=answer, **one)
            for (size, answer), one in zip((*sent, *larger), done, strict=True)
        ]
        return Bodies(settled=settled, sent=found[: len(sent)], larger=found[len(sent) :])

    def _delivery(self) -> Callable[[], Delivery]:
        self._route("delivery", {"backendRefs": [_to(BLUE), _to(GREEN)]})

        def ask() -> Delivery:
            host = _host("delivery")
            settled = self.site.settle(self.address, host, PATH)
            if not settled.settled:
                return Delivery(settled=settled)
            sample = self.site.sample(self.address, host, PATH, _DELIVERED)
            return Delivery(settled=settled, sample=sample)

        return ask

    def audit(self, seen: Delivery, parts: dict[str, Record | Fault]) -> Delivery:
        """Ask the backends at last how often each request of the measurements arrived."""
        measured = posts(parts.get("weights"), parts.get("headers"), seen)
        named = {what: one for what, one in measured if one.token}
        sent = {what: (one.token, one.sent, one.good()) for what, one in named.items()}
        steady = parts.get("steady")
        if isinstance(steady, Steady) and steady.watches:
            answers = steady.watches[0].answers
            good = sum(status == 200 and pod != "" for _, _, status, pod, _ in answers)
            sent["the steady client"] = (self._until, len(answers), good)
        if not sent:
            return seen
        if self.site.trial.cluster.stopping.wait(_LATE_SECONDS):
            return seen
        states = self.site.states(tokens=[token for token, _, _ in sent.values()])
        audited: list[Audited] = []
        repeats: list[Repeat] = []
        for what, (token, count, answered) in sent.items():
            ids = {name: Counter[str](one["ids"][token]) for name, one in states.items()}
            total = sum(ids.values(), Counter[str]())
            twice = [one for one, times in total.items() if times > 1]
            audited.append(
                Audited(
                    what=what,
                    sent=count,
                    answered=answered,
                    arrived=len(logical(total)),
                    repeated=len(twice),
                )
            )
            repeats += [
                Repeat(
                    what=what,
                    id=one,
                    arrived={name: counts[one] for name, counts in ids.items() if counts[one]},
                )
                for one in twice
            ]
        return seen.model_copy(update={"audited": audited, "repeats": repeats[:_MOST_REPEATS]})

    def _ask_steadily(self) -> Steady:
        host = _host("steady")
        try:
            settled = self.site.settle(self.address, host, PATH)
        finally:
            self.watching.set()
        if not settled.settled:
            return Steady(settled=settled)
        return Steady(
            settled=settled, watches=[self.site.steady(self.address, host, PATH, self._until)]
        )

    def stop(self) -> None:
        """Let the steady client end; if it cannot be told, it ends by itself in the end."""
        if self.steady:
            with contextlib.suppress(HarnessError):
                self.site.stop(self._until)

    def settle_stream(self) -> Settled:
        """Wait until the stream's route follows its creation."""
        return self.site.settle(self.address, _host("stream"), PATH)

    def _ask_streaming(self) -> Streaming:
        if self.stream_settled is None:
            raise HarnessError(Reason.INTERNAL, "nobody waited for the route of the stream")
        seen = Streaming(settled=self.stream_settled.result(), expected=EVENTS)
        if not seen.settled.settled:
            return seen
        through = partial(self._stream, self.address, 80, _host("stream"))
        direct = partial(self._stream, self.site.addresses[BLUE], PORT, "", inside=True)
        with ThreadPoolExecutor(max_workers=STREAMS + 2) as pool:
            first = pool.submit(direct)
            others = [pool.submit(through) for _ in range(STREAMS)]
            plain = pool.submit(
                self.site.sample, self.address, _host("stream"), PATH, _PLAIN_REQUESTS, workers=1
            )
        streams = [one.result() for one in others]
        return seen.model_copy(
            update={
                "direct": first.result(),
                "through": streams[0],
                "others": streams[1:],
                "plain": plain.result(),
            }
        )

    def _stream(self, address: str, port: int, host: str, *, inside: bool = False) -> Stream:
        done = self.site.do(
            {
                "do": "stream",
                "address": address,
                "port": port,
                "host": host,
                "path": PATH,
                "body": _STREAM_BODY,
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
        settled = self.site.settle(self.address, host, PATH)
        if not settled.settled:
            return Slow(why_not=f"the route never answered: {told(settled.last)}")
        seconds = self._long_seconds()
        headers = {"x-kar-delay": str(seconds)}
        task = self._sending(host, headers=headers, timeout=seconds + _SLACK_SECONDS)
        done = self.site.do(task, seconds)
        return Slow(sent=[Sent(what=f"answer after {seconds:g} s", **done)])

    def _long_seconds(self) -> float:
        return self.site.trial.number("gateway.long_answer_seconds")

    def _sending(self, host: str, *, headers: Object | None = None, **more: object) -> Object:
        return {
            "do": "send",
            "address": self.address,
            "port": 80,
            "host": host,
            "path": PATH,
            "headers": {**COMPLETION["headers"], **(headers or {})},
            **more,
        }

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
        settled = self.site.settle(self.address, host, PATH)
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
        limit = _SLOW_SECONDS + 10
        headers = {"x-kar-delay": str(_SLOW_SECONDS)}
        done = self.site.do(self._sending(host, headers=headers, timeout=limit), limit)
        cut = done["status"] == 504 and done["seconds"] < _SLOW_SECONDS
        # Another status comes from a gateway that is out of order, and not from its timeout.
        known = cut or done["status"] == 200
        return Feature(
            name=name,
            works=cut if known else None,
            disturbed=not known,
            seen=f"a timeout of {_TIMEOUT_SECONDS} s and a backend that takes {_SLOW_SECONDS} s: "
            f"status {done['status']} after {done['seconds']:.1f} s",
        )

    def _try_mirror(self, name: str, host: str) -> Feature:
        count = 20
        sample = self.site.sample(self.address, host, PATH, count)
        blue, mirrored = sample.good(pod=BLUE), sample.counted[GREEN]
        if mirrored < count and not self.site.trial.cluster.stopping.wait(_LATE_SECONDS):
            # Nobody waits for copies, so they may come after the answers.
            mirrored = self.site.states()[GREEN]["tokens"].get(sample.token, 0)
        answered = sample.good() == count
        return Feature(
            name=name,
            works=blue == count and mirrored == count if answered else None,
            disturbed=not answered,
            seen=f"of {count} requests {blue} were answered by {BLUE}, and {mirrored} copies "
            f"arrived at {GREEN}" + ("" if answered else f": {told(sample.tallies)}"),
        )

    def _try_retry(self, name: str, host: str) -> Feature:
        # With GET: whoever retries may leave out what is not idempotent.
        more: Object = {"method": "GET", "body": "", "headers": {"x-kar-fail-first": "yes"}}
        sample = self.site.sample(self.address, host, "/", 1, **more)
        attempts = sample.counted[BLUE]
        return Feature(
            name=name,
            works=sample.good() == 1 and attempts == 2 if attempts else None,
            disturbed=not attempts,
            seen=f"a backend that fails once: {told(sample.tallies)} after {attempts} attempts",
        )


def _size(size: int) -> str:
    if size >= 2**20:
        return f"{size / 2**20:.4g} MiB"
    return f"{size / 1024:.4g} KiB"


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
