"""The endpoint picker that is deployed beside a pool: the extension's own, or the user's image."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from kar_checks.cluster import kinds, pods
from kar_checks.kit.http_testbed.site import Site
from kar_checks.kit.trial import Trial, manifest

METRICS_PORT = 9090
CONFIG = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: lora-affinity-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: lora-affinity-scorer, weight: 1}
  - {pluginRef: max-score-picker}
"""
"""The weights are those of the extension's default, which does not look at adapters."""
_DECISIONS = re.compile(
    r'^\w*scheduler_attempts_total\{[^}]*status="success"[^}]*\} ([0-9.e+]+)$', re.MULTILINE
)


@dataclass(frozen=True)
class Picker:
    """A picker that runs: its name is that of its Service and its pod."""

    name: str
    address: str
    declares_prefix: bool
    declares_adapters: bool

    def metrics(self, site: Site) -> str:
        """Return what it tells of itself; empty if it tells nothing."""
        target = [self.address, METRICS_PORT, "GET", "/metrics", ""]
        ((status, text),) = site.do({"do": "each", "targets": [target]}, inside=True)["answers"]
        return str(text) if status == 200 else ""

    def decisions(self, site: Site) -> int | None:
        """Return how many picks it counts itself, ``None`` if it tells none."""
        text = self.metrics(site)
        found = _DECISIONS.findall(text)
        # A counter without any count yet is not in the text at all.
        return int(sum(float(one) for one in found)) if found or "scheduler" in text else None


def deploy(trial: Trial, name: str, pool: str) -> Picker:
    """Start a picker for a pool, with the rights that it needs in the namespace.

    Raises:
        HarnessError: it could not start.
    """
    create = trial.workspace.create
    create(kinds.SERVICE_ACCOUNT, manifest("routing/account.yaml.j2", name=name))
    create(kinds.ROLE, manifest("routing/role.yaml.j2", name=name))
    create(
        kinds.ROLE_BINDING,
        manifest("routing/binding.yaml.j2", name=name, namespace=trial.namespace),
    )
    create(kinds.SERVICE, manifest("routing/picker_service.yaml.j2", name=name))
    own = trial.profile.text("routing.picker_config")
    args = [
        f"--pool-name={pool}",
        f"--pool-namespace={trial.namespace}",
        "--grpc-port=9002",
        "--grpc-health-port=9003",
        f"--metrics-port={METRICS_PORT}",
        "--metrics-endpoint-auth=false",
        f"--config-text={own or CONFIG}",
        *shlex.split(trial.profile.text("routing.picker_args")),
    ]
    image = trial.workspace.target.mirrored(trial.profile.text("routing.picker_image"))
    ready = trial.start_pod(
        manifest("routing/picker.yaml.j2", name=name, image=image, args=args), until=pods.ready
    )
    return Picker(
        name=name,
        address=str(ready["status"]["podIP"]),
        declares_prefix="prefix-cache-scorer" in (own or CONFIG),
        declares_adapters="lora-affinity-scorer" in (own or CONFIG),
    )
