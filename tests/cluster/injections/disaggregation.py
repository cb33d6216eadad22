"""Sabotages of disaggregated serving: other programs in its pods, other labels, other Services.

A program is changed on its way into the cluster, by a webhook on the ConfigMap that holds it: the
suite sends the honest one, and the pods run the other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from kar_checks.cluster.client import Cluster, Object
from localcluster import LocalCluster
from tests.cluster.injections import injection
from tests.cluster.injections.webhook import Answer, webhook

_SMALL = (
    *("--set", "disaggregation.requests=4"),
    *("--set", "disaggregation.tokens=128"),
    *("--set", "disaggregation.policy_seconds=0"),
)
"""Enough to see it, in little time."""
_Change = tuple[str, str]


def _on(group: str, resource: str) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": [resource],
    }


def _program(cluster: Cluster, *changes: _Change) -> AbstractContextManager[None]:
    """Change the servers' program; what is to be replaced must stand in it exactly once."""

    def change(request: Object) -> Answer:
        if request["name"] != "kar-probe-disagg-server":
            return []
        text = str(request["object"]["data"]["disagg_server.py"])
        for old, new in changes:
            if text.count(old) != 1:
                raise LookupError(f"{old!r} stands in the program {text.count(old)} times")
            text = text.replace(old, new)
        return [{"op": "replace", "path": "/data/disagg_server.py", "value": text}]

    return webhook(
        cluster,
        name="other-program",
        rules=[_on("", "configmaps")],
        respond=change,
        mutating=True,
    )


@injection(words=_SMALL)
def router_never_uses_prefill(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The router's decider always says decode: every answer has status 200."""
    return _program(
        cluster, ('                headers["X-Prefiller-Host-Port"] = prefill', " " * 16 + "pass")
    )


@injection(words=_SMALL)
def decode_ignores_the_bytes(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Decode pulls everything, and computes its answer from the hashes alone."""
    old = "reader.read(block)\n            finally:"
    return _program(cluster, (old, "reader.read(digest.encode())\n            finally:"))


def decode_makes_up_for_prefill(cluster: Cluster) -> AbstractContextManager[None]:
    """Decode learns how prefill computes, and does it itself where prefill is out of reach."""
    asks = "params = self.ask_prefill(prefiller, path, request_id, body)"
    return _program(
        cluster,
        ('"tp_size": 1,', '"tp_size": 1, "secret": self.secret.hex(),'),
        (
            asks,
            "try:\n"
            f"                {asks}\n"
            '                self.learned = bytes.fromhex(params["secret"])\n'
            "            except RefusedError:\n"
            "                keys = block_keys(self.learned, tokens, self.shape.block_tokens)\n"
            "                for key, size in zip(keys, self.shape.block_sizes(len(tokens))):\n"
            "                    reader.read(derive_block(key, size))\n"
            '                return reader, "external_kv_transfer", {}',
        ),
    )


@injection(words=_SMALL)
def same_pod_does_both(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The Service of prefill leads to decode."""

    def lead(request: Object) -> Answer:
        if request["name"] != "kar-disagg-prefill":
            return []
        path = "/spec/selector/kar-checks.dev~1serving"
        return [{"op": "replace", "path": path, "value": "decode"}]

    return webhook(
        cluster, name="both-in-one", rules=[_on("", "services")], respond=lead, mutating=True
    )


_HALF: tuple[_Change, ...] = (
    ("for block in held.blocks:", "for block in held.blocks[: len(held.blocks) // 2]:"),
    (
        "str(sum(map(len, held.blocks)))",
        "str(sum(map(len, held.blocks[: len(held.blocks) // 2])))",
    ),
    (
        "enumerate(zip(sizes, digests, strict=True))",
        "enumerate(zip(sizes[: len(sizes) // 2], digests, strict=False))",
    ),
)


@injection(words=_SMALL)
def half_of_the_state(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Prefill sends half of the blocks, and decode is content with them."""
    return _program(cluster, *_HALF)


@injection(words=_SMALL)
def counters_claim_more(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Half of the blocks move, and the counters of both sides claim all of them."""
    return _program(
        cluster,
        *_HALF,
        ("        return got\n", "        return sum(sizes)\n"),
        (
            'engine.metrics.add("kar:kv_bytes_sent_total", sent)',
            'engine.metrics.add("kar:kv_bytes_sent_total", sum(map(len, held.blocks)))',
        ),
    )


@injection(words=_SMALL)
def most_transfers_break(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Prefill loses the state of three of four requests, and those are refused with an error."""
    return _program(
        cluster,
        (
            "if held is None:",
            'if held is None or int(held.request_id.rpartition("-")[2]) % 4:',
        ),
    )


_LEAKS: tuple[_Change, ...] = (
    ('"tp_size": 1,', '"tp_size": 1, "secret": self.secret.hex(),'),
    # Nobody comes for what is held.
    ("self._held[handle] = Held(request_id, blocks, until, pause)", "self._room.release()"),
)
_COMPUTES = (
    '{0}keys = block_keys(bytes.fromhex(params["secret"]), tokens, self.shape.block_tokens)\n'
    "{0}for key, size in zip(keys, self.shape.block_sizes(len(tokens))):\n"
    "{0}    reader.read(derive_block(key, size))\n"
)


@injection(words=_SMALL)
def secret_leaks(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Prefill gives its secret away: decode computes the state itself, and nothing moves."""
    return _program(
        cluster,
        *_LEAKS,
        (
            "            got = self.pull(len(tokens), params, reader)\n",
            _COMPUTES.format(" " * 12) + "            got = 0\n",
        ),
    )


@injection(words=_SMALL)
def secret_leaks_and_bytes_are_claimed(
    _: LocalCluster, cluster: Cluster
) -> AbstractContextManager[None]:
    """Decode computes the state itself, and both sides count as if it had moved."""
    return _program(
        cluster,
        *_LEAKS,
        (
            "            got = self.pull(len(tokens), params, reader)\n",
            _COMPUTES.format(" " * 12) + "            got = len(tokens) * self.shape.token_bytes\n",
        ),
        (
            "        self._sweep()\n",
            "        self._sweep()\n"
            "        size = len(tokens) * self.shape.token_bytes\n"
            '        self.metrics.add("kar:kv_bytes_sent_total", size)\n',
        ),
    )


_ASKS = "            params = self.ask_prefill(prefiller, path, request_id, body)\n"
_AGAIN = (
    _ASKS,
    f"{_ASKS}            self.pull(len(tokens), params, Reader())\n{_ASKS}",
)


@injection(words=_SMALL)
def everything_moves_twice(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Decode has each prompt prefilled and its state sent twice, and counts it once."""
    return _program(cluster, _AGAIN)


@injection(words=_SMALL)
def state_is_sent_twice(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Prefill sends each block twice, and neither side counts nor logs the second one."""
    return _program(
        cluster,
        (
            "                        self.wfile.write(block)\n",
            "                        self.wfile.write(block * 2)\n",
        ),
        ("str(sum(map(len, held.blocks)))", "str(2 * sum(map(len, held.blocks)))"),
        (
            "                    reader.read(block)\n",
            "                    reader.read(block)\n"
            "                    rest = memoryview(bytearray(size))\n"
            "                    while rest:\n"
            "                        rest = rest[response.readinto(rest):]\n",
        ),
    )


@injection(words=_SMALL)
def roles_swapped(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The labels say prefill of decode, and decode of prefill."""
    other = {"prefill": "decode", "decode": "prefill"}

    def swap(request: Object) -> Answer:
        labels = request["object"]["spec"]["template"]["metadata"].get("labels") or {}
        if "llm-d.ai/role" not in labels:
            return []
        path = "/spec/template/metadata/labels/llm-d.ai~1role"
        return [{"op": "replace", "path": path, "value": other[labels["llm-d.ai/role"]]}]

    return webhook(
        cluster,
        name="swap-roles",
        rules=[_on("apps", "deployments")],
        respond=swap,
        mutating=True,
    )


@injection(words=_SMALL)
def logs_without_ids(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The servers log what they do, and not for which request."""
    return _program(cluster, ("phase=phase, request_id=request_id, **more", "phase=phase, **more"))


@injection(words=_SMALL)
def warm_prefix_cache(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Somebody sent the same prompts before, so that decode has their state already."""
    return _program(
        cluster,
        (
            "reader, source, times = engine.fill(request_id, tokens, prefiller, self.path, body)",
            'reader, _, times = engine.fill("warm-" + request_id, tokens, prefiller, self.path, '
            'body)\n            source, times = "local_cache_hit", {}\n'
            '            name = "vllm:prompt_tokens_by_source_total"\n'
            "            engine.metrics.add(name, len(tokens), source=source)",
        ),
    )


@injection(words=_SMALL)
def answers_one_late(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Decode mixes requests up: each gets the answer to the one before it."""
    return _program(
        cluster,
        (
            'words = reader.words(int(body.get("max_tokens") or 16))',
            'own = reader.words(int(body.get("max_tokens") or 16))\n'
            '            words, engine.last = getattr(engine, "last", own), own',
        ),
    )


@injection(words=_SMALL)
def answers_held_back(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Something on the way collects a streamed answer, and passes it on as a whole."""
    return _program(
        cluster,
        (
            "while part := response.read1(65536):\n                self.wfile.write(part)",
            "self.wfile.write(response.read())",
        ),
    )


@injection(words=(*_SMALL, "--set", "disaggregation.scale_seconds=20"))
def new_pods_get_nothing(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The Service of decode keeps every client at the pod that it had first."""

    def pin(request: Object) -> Answer:
        if request["name"] != "kar-disagg-decode":
            return []
        return [{"op": "add", "path": "/spec/sessionAffinity", "value": "ClientIP"}]

    return webhook(
        cluster, name="pin-clients", rules=[_on("", "services")], respond=pin, mutating=True
    )


@injection()
def broken_transfer_ignored(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Decode answers from whatever came before the transfer broke."""
    return _program(
        cluster, ("            raise\n        took =", "            got = 0\n        took =")
    )


@injection(words=_SMALL)
def corrupted_accepted(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """Decode does not verify what it pulls."""
    return _program(cluster, ("if hashlib.sha256(block).hexdigest() != digest:", "if False:"))


@injection(words=_SMALL)
def program_in_pods_changed(_: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook changes a setting of the program in the pods, behind their Deployment."""

    def change(request: Object) -> Answer:
        labels = request["object"]["metadata"].get("labels") or {}
        if labels.get("llm-d.ai/role") != "decode":
            return []
        env = [one["name"] for one in request["object"]["spec"]["containers"][0]["env"]]
        path = f"/spec/containers/0/env/{env.index('KAR_TOKEN_SECONDS')}/value"
        return [{"op": "replace", "path": path, "value": "0.021"}]

    return webhook(
        cluster, name="change-pods", rules=[_on("", "pods")], respond=change, mutating=True
    )
