"""The objects of the probe workload, from their templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kar_checks.checks.disaggregation.kv import Shape
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import manifest
from kar_checks.profile import Profile, default

PORT = 8000
KV_PORT = 5600
SERVER, CLIENT_PROBE = "disagg_server", "disagg_client"
PART_LABEL = "kar-checks.dev/serving"
ROLE_LABEL = "llm-d.ai/role"
"""The label by which llm-d names the two kinds of pod; others read it as well."""
SECRET = "kar-disagg-key"  # noqa: S105 - the name of the Secret
CLIENT, POLICY = "kar-disagg-client", "kar-disagg-nobody"
HELD = 3
"""Requests whose state prefill keeps at once."""


def named(part: str) -> str:
    """Return the name of a part's Deployment and Service."""
    return f"kar-disagg-{part}"


def set_named(part: str) -> str:
    """Return the name of a part's LeaderWorkerSet."""
    return f"{named(part)}-lws"


def shape_of(profile: Profile) -> Shape:
    """Return the size of a KV cache that a profile asks for."""
    names = ("layers", "kv_heads", "head_dim", "dtype_bytes", "block_tokens")
    return Shape(**{name: int(profile.number(f"disaggregation.{name}")) for name in names})


@dataclass(frozen=True)
class Workload:
    """What its objects have in common."""

    image: str
    shape: Shape
    tokens: int
    """Of the longest prompt: prefill's memory follows from it."""
    token_seconds: float
    apart: bool
    """There are nodes enough to demand that prefill and decode are on different ones."""
    network: str = ""
    interface: str = ""

    def engine(self, part: str) -> Object:
        """Return the Deployment of prefill or decode."""
        sizes = {f"KAR_{key.upper()}": value for key, value in self.shape.model_dump().items()}
        state = self.tokens * self.shape.token_bytes / 2**20
        held = (HELD + 1) * state if part == "prefill" else 0
        return self._deployment(
            part,
            program="engine",
            env={
                **sizes,
                "KAR_KV_PORT": KV_PORT,
                "KAR_HELD": HELD,
                "KAR_TOKEN_SECONDS": self.token_seconds,
                **({"KAR_INTERFACE": self.interface} if self.network else {}),
            },
            apart_from={"prefill": "decode", "decode": "prefill"}[part],
            secret=SECRET if part == "prefill" else "",
            memory=f"{int(256 + held)}Mi",
            network=self.network,
        )

    def router(self, prefill: str, decode: str) -> Object:
        """Return the Deployment of the router between two addresses (``host:port``)."""
        env = {"KAR_PREFILL": prefill, "KAR_DECODE": decode}
        return self._deployment("router", program="router", env=env, memory="256Mi")

    def _deployment(
        self,
        part: str,
        *,
        program: str,
        env: dict[str, Any],
        memory: str,
        apart_from: str = "",
        secret: str = "",
        network: str = "",
    ) -> Object:
        return manifest(
            "disaggregation/deployment.yaml.j2",
            name=named(part),
            part=part,
            program=program,
            env={"KAR_PORT": PORT, **env},
            port=PORT,
            apart_from=apart_from,
            apart="required" if self.apart else "preferred",
            secret=secret,
            memory=memory,
            network=network,
            image=self.image,
            probe=_config_map(SERVER),
        )

    def client(self) -> Object:
        """Return the pod that sends the requests."""
        return manifest(
            "disaggregation/client.yaml.j2",
            name=CLIENT,
            image=self.image,
            probe=_config_map(CLIENT_PROBE),
        )


def leader_worker_set(part: str, deployment: Object) -> Object:
    """Return the LeaderWorkerSet that makes the same pods as a Deployment."""
    return manifest(
        "disaggregation/leaderworkerset.yaml.j2",
        name=set_named(part),
        pod=deployment["spec"]["template"],
    )


def service(part: str) -> Object:
    """Return the Service of a part."""
    return manifest("disaggregation/service.yaml.j2", name=named(part), part=part, port=PORT)


def secret(key: str) -> Object:
    """Return the Secret that only prefill mounts."""
    return manifest("disaggregation/secret.yaml.j2", name=SECRET, key=key)


def policy() -> Object:
    """Return the NetworkPolicy that lets nobody reach prefill."""
    return manifest("disaggregation/policy.yaml.j2", name=POLICY)


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each, for dry runs."""
    profile = default()
    parts = Workload(
        image=target.image("python"),
        shape=shape_of(profile),
        tokens=int(profile.number("disaggregation.tokens")),
        token_seconds=0,
        apart=False,
    )
    return [
        (kinds.SECRET, secret("dry-run")),
        (kinds.SERVICE, service("prefill")),
        (kinds.DEPLOYMENT, parts.engine("prefill")),
        (kinds.DEPLOYMENT, parts.engine("decode")),
        (kinds.DEPLOYMENT, parts.router("192.0.2.1:1", "192.0.2.2:1")),
        (kinds.POD, parts.client()),
        (kinds.NETWORK_POLICY, policy()),
    ]


def _config_map(probe: str) -> str:
    return f"kar-probe-{probe.replace('_', '-')}"
