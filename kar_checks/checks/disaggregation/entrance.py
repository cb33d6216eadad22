"""The way in: a Gateway of the cluster before the router, if the cluster has a class for one."""

from __future__ import annotations

from kar_checks.checks.disaggregation import workload
from kar_checks.cluster import kinds
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.kit.http_testbed.site import Site, accepted, classes
from kar_checks.kit.trial import Trial

HOST = "disaggregation.kar-checks.test"
NONE = "none"
_TOPIC = "kar-disagg"


class Entrance:
    """A Gateway and its route. What does not work goes to ``why_not`` and ends nothing."""

    def __init__(self, trial: Trial) -> None:
        self.class_name = ""
        self.address = ""
        """``host:port``; empty as long as nobody may come this way."""
        self.why_not = ""
        self._trial = trial
        self._site = Site(trial, _TOPIC)
        self._gateway = ""

    def begin(self) -> None:
        """Create a Gateway of the class that was named, or of the first that is accepted."""
        wanted = self._trial.text("disaggregation.gateway")
        gateway = kinds.GATEWAY
        served = self._trial.facts.serves(gateway.group, gateway.version, gateway.plural)
        if wanted == NONE or not served:
            self.why_not = f"disaggregation.gateway is {NONE}" if served else "no Gateway API"
            return
        try:
            self.class_name = self._find(wanted)
            if not self.class_name:
                return
            self._gateway = self._site.gateway(self.class_name)
            seconds = round(self._trial.number("disaggregation.request_seconds"))
            router = {"name": workload.named("router"), "port": workload.PORT}
            rule = {"backendRefs": [router], "timeouts": {"request": f"{seconds}s"}}
            self._site.route(self._gateway, "router", HOST, [rule])
        except ApiError as error:
            self.why_not = f"GatewayClass {self.class_name}: {error.server_message[:200]}"

    def _find(self, wanted: str) -> str:
        found = classes(self._trial, wanted)
        for name, stored in found.items():
            if accepted(stored):
                return name
        self.why_not = f"no accepted GatewayClass {wanted}".rstrip()
        return ""

    def ready(self) -> bool:
        """Wait until the Gateway has an address; return whether requests may come that way."""
        if self.why_not:
            return False
        limit = self._trial.number("disaggregation.gateway_seconds")
        seen = self._site.await_gateway(self._gateway, seconds=limit)
        if not seen.programmed:
            self.why_not = f"a Gateway of class {self.class_name}: not programmed in {limit:.0f} s"
            return False
        host = f"[{seen.address}]" if ":" in seen.address else seen.address
        self.address = f"{host}:80"
        return True

    def close(self, why: HarnessError) -> None:
        """Go in by the Service after all."""
        self.why_not = f"through a Gateway of class {self.class_name}: {why.fault.message}"
        self.address = ""

    @property
    def told(self) -> str:
        """How requests come to the router, in words."""
        if self.address:
            return f"Gateway of class {self.class_name}"
        return f"Service ({self.why_not})"
