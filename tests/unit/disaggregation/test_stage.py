"""What is read of the workload: counters, interfaces, logs, and what is drawn of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kar_checks import profile
from kar_checks.checks.disaggregation import figures, workload
from kar_checks.checks.disaggregation.observation import Scaling
from kar_checks.checks.disaggregation.stage import Stage, _devices, _samples
from kar_checks.cluster import facts
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import Trial
from tests.unit.apiserver import Answer, ApiServer
from tests.unit.disaggregation.cases import LOSS, MAIN, SCALING, SIZE, batch, local, request, seen

NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:     100       1    0    0    0     0          0         0      100       1    0
  eth0:67200000    5000    0    0    0     0          0         0   330000    4000    0
"""
METRICS = """kar:kv_bytes_sent_total{engine="0"} 10
vllm:nixl_bytes_transferred_sum{engine="0"} 67108864
vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 512
vllm:prompt_tokens_by_source_total{engine="0",source="external_kv_transfer"} 1.5e3
process_start_time_seconds 1795368841.440
not a sample
"""


@pytest.fixture
def stage(cluster: Cluster, api: ApiServer) -> Stage:
    space = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=9e9)
    nothing = facts.Facts(version="v1.37.0", user="u", cluster_uid="", nodes=[], served=frozenset())
    return Stage(Trial(cluster, space, nothing, profile.default(), frozenset()))


def pod(name: str, part: str, *, ready: bool = True) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "labels": {workload.PART_LABEL: part, "kar-checks.dev/run": "r1"},
        },
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def test_samples_are_told_apart_by_their_source() -> None:
    found = _samples(METRICS)
    assert found["vllm:nixl_bytes_transferred_sum", ""] == SIZE
    assert found["vllm:prompt_tokens_by_source_total", "external_kv_transfer"] == 1500
    assert found["process_start_time_seconds", ""] == 1795368841.44
    assert len(found) == 5


def test_bytes_of_an_interface_are_received_and_sent() -> None:
    assert _devices(NET_DEV) == {"lo": (100, 100), "eth0": (67200000, 330000)}
    assert _devices("") == {}


def test_differences_are_per_pod_and_know_a_new_process(stage: Stage) -> None:
    stage.pods = {"p": pod("p", "prefill"), "d": pod("d", "decode")}
    start, sent = ("process_start_time_seconds", ""), ("kar:kv_bytes_sent_total", "")
    before = {"p": {start: 1.0, sent: 10.0}, "d": {start: 2.0}}
    after = {"p": {start: 1.0, sent: 74.0}, "d": {start: 3.0, sent: 5.0}}
    devices = {"p": {"lo": (1, 1), "eth0": (5, 6)}}
    later = {"p": {"lo": (9, 9), "eth0": (15, 26), "net1": (1, 1)}}
    counted, carried = stage.between((before, devices), (after, later))
    found = {one.pod: (one.part, one.reset, one.sent, one.received) for one in counted}
    assert found == {"p": ("prefill", False, 64.0, None), "d": ("decode", True, None, None)}
    assert [(one.device, one.received, one.sent) for one in carried] == [("eth0", 10, 20)]


def test_the_logs_are_told_by_request_and_kept(stage: Stage, api: ApiServer) -> None:
    lines = [
        {"event": "started"},
        {"event": "request", "phase": "decode", "request_id": "a", "at": 5.0, "bytes": 7},
        {"event": "request", "phase": "decode", "at": 6.0},
    ]
    text = "\n".join(["no json", *map(json.dumps, lines)])
    kept: dict[str, str] = {}
    stage.trial.evidence = lambda name, content: kept.setdefault(name, content)
    stage.pods = {"d": pod("d", "decode")}
    api.answers.append(Answer(200, text))
    phases, (told,) = stage.tell_logs()
    assert [(one.pod, one.phase, one.bytes) for one in phases["a"]] == [("d", "decode", 7)]
    assert (told.phases, told.lines_without_id, told.node) == ({"decode": 2}, 1, "n1")
    assert kept == {"d.log": text}


def later(work: Callable[[], object]) -> None:
    threading.Timer(0.3, work).start()


def test_pods_are_awaited_until_their_number_is_right(stage: Stage, api: ApiServer) -> None:
    api.add(pod("d1", "decode"), "pods")
    assert [one["metadata"]["name"] for one in stage.await_pods("decode", 1, seconds=5)] == ["d1"]
    later(lambda: api.add(pod("d2", "decode"), "pods"))
    assert len(stage.await_pods("decode", 2, seconds=5)) == 2
    later(lambda: api.put("DELETED", ("v1", "ns", "pods", "d2"), pod("d2", "decode")))
    assert len(stage.await_pods("decode", 1, seconds=5)) == 1


def test_pods_that_do_not_come_are_an_error_that_tells_their_state(
    stage: Stage, api: ApiServer
) -> None:
    api.add(pod("d1", "decode", ready=False), "pods")
    with pytest.raises(HarnessError) as found:
        stage.await_pods("decode", 1, seconds=0.5)
    assert found.value.fault.reason == "timeout"
    assert "d1" in found.value.fault.message


def test_a_pod_that_can_never_start_ends_the_wait(stage: Stage, api: ApiServer) -> None:
    body = pod("d1", "decode", ready=False)
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    body["status"]["containerStatuses"] = [{"name": "server", "state": waiting}]
    api.add(body, "pods")
    with pytest.raises(HarnessError) as found:
        stage.await_pods("decode", 1, seconds=30)
    assert found.value.fault.reason == "image_unavailable"


def test_the_way_and_the_waterfall_of_a_request_fit_into_its_time() -> None:
    way, waterfall, rate, scaling = figures.draw(seen())
    assert way.kind == "way"
    assert [one.detail for one in way.stops] == ["", "n1", "n2", "n1"]
    assert [one.label for one in way.hops if one.heavy] == ["64 MiB in 0.50 s"]
    spans = {lane.name: lane.spans[0] for lane in waterfall.lanes}
    assert list(spans) == ["client", "router", "prefill", "state", "decode"]
    ends = [one.end for one in spans.values() if one.end is not None]
    assert min(one.start for one in spans.values()) >= 0 and max(ends) <= waterfall.seconds
    assert spans["prefill"].end is not None
    assert spans["prefill"].end <= spans["state"].start < spans["decode"].start
    moved = [value for _, value in rate.series[0].points]
    width = rate.seconds / len(moved)
    assert sum(moved) * width == pytest.approx(4 * SIZE / 2**20, rel=0.02)
    assert sum(value for one in scaling.series for _, value in one.points) == 12


def test_what_was_not_seen_is_not_drawn() -> None:
    nothing = MAIN.model_copy(update={"requests": [local(0)]})
    assert figures.draw(seen(main=nothing, scaling=None)) == []
    empty = Scaling.model_validate({**SCALING.model_dump(), "batch": batch().model_dump()})
    (drawn,) = figures.draw(seen(main=None, scaling=empty))
    assert drawn.series == []
    assert LOSS.request.status == 502 and request(0).right


def test_every_manifest_is_ours_and_only_prefill_gets_the_secret(tmp_path: Path) -> None:
    told = {body["metadata"]["name"]: json.dumps(body) for _, body in workload.manifests(Target())}
    mounting = [name for name, text in told.items() if '"secretName"' in text]
    assert mounting == ["kar-disagg-prefill"]
    assert "podAntiAffinity" in told["kar-disagg-decode"]


def test_a_secondary_network_is_asked_for_and_its_address_used() -> None:
    shape = workload.shape_of(profile.default())
    parts = workload.Workload(
        image="i",
        shape=shape,
        tokens=512,
        token_seconds=0,
        apart=True,
        network="fast/rdma",
        interface="net1",
    )
    template = parts.engine("prefill")["spec"]["template"]
    assert template["metadata"]["annotations"] == {"k8s.v1.cni.cncf.io/networks": "fast/rdma"}
    env = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}
    assert env["KAR_INTERFACE"] == "net1"
    affinity = template["spec"]["affinity"]["podAntiAffinity"]
    assert "requiredDuringSchedulingIgnoredDuringExecution" in affinity
