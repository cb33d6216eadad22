"""What makes the pods of prefill and decode: found, named, or left for another form, and why."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.disaggregation import judge, workload
from kar_checks.checks.disaggregation.form import Form
from kar_checks.checks.registry import find
from kar_checks.cluster import facts, kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import RUN_LABEL, Target, pod_templates
from kar_checks.kit.trial import Trial
from tests.unit.apiserver import ApiServer, refusal
from tests.unit.disaggregation.cases import seen

SETS = kinds.LEADER_WORKER_SET
SERVED = frozenset({(SETS.group, SETS.version, SETS.plural)})
TOLD = "LeaderWorkerSets of leaderworkerset.x-k8s.io/v1"


def trial(cluster: Cluster, *settings: str, served: Any = SERVED) -> Trial:
    space = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=9e9)
    known = facts.Facts(version="v1.37.0", user="u", cluster_uid="", nodes=[], served=served)
    chosen = [f"disaggregation.{one}" for one in settings]
    return Trial(cluster, space, known, profile.load(None, chosen), frozenset())


def engines() -> dict[str, Object]:
    parts = workload.Workload(
        image="i",
        shape=workload.shape_of(profile.default()),
        tokens=512,
        token_seconds=0,
        apart=True,
    )
    return {part: parts.engine(part) for part in ("prefill", "decode")}


def take_up(api: ApiServer) -> None:
    """Do as the controller does, once both are there."""

    def work() -> None:
        with api.changed:
            assert api.changed.wait_for(lambda: len(names(api, SETS)) == 2, timeout=5)
        told = {"conditions": [{"type": "Progressing", "status": "True"}]}
        for key, body in list(api.objects.items()):
            if key[2] == SETS.plural:
                api.put("MODIFIED", key, {**body, "status": told})

    threading.Thread(target=work, daemon=True).start()


def names(api: ApiServer, kind: kinds.Kind) -> list[str]:
    return sorted(key[3] for key in api.objects if key[2] == kind.plural)


def test_leader_worker_sets_are_taken_where_they_are_served(
    cluster: Cluster, api: ApiServer
) -> None:
    form = Form(trial(cluster))
    take_up(api)
    made = form.create(engines())
    assert form.told == TOLD
    assert names(api, SETS) == ["kar-disagg-decode-lws", "kar-disagg-prefill-lws"]
    assert names(api, kinds.DEPLOYMENT) == []
    for part, body in made.items():
        assert body["spec"]["replicas"] == body["spec"]["leaderWorkerTemplate"]["size"] == 1
        (template,) = pod_templates(body)
        labels = template["metadata"]["labels"]
        assert (labels[workload.PART_LABEL], labels[workload.ROLE_LABEL]) == (part, part)
        assert labels[RUN_LABEL] == "r1"
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        (sent,) = pod_templates(engines()[part])
        assert template["spec"]["containers"][0]["env"] == sent["spec"]["containers"][0]["env"]
    form.scale("decode", 2)
    (asked,) = api.asked("PATCH")
    assert asked.path.endswith("/leaderworkersets/kar-disagg-decode-lws")
    assert asked.body == {"spec": {"replicas": 2}}


@pytest.mark.parametrize(
    ("settings", "served", "told"),
    [
        ([], frozenset(), "Deployments (no LeaderWorkerSet API)"),
        (
            ["workload=deployment"],
            SERVED,
            "Deployments (disaggregation.workload is deployment)",
        ),
    ],
)
def test_otherwise_they_are_deployments_and_the_reason_is_told(
    cluster: Cluster, api: ApiServer, settings: list[str], served: Any, told: str
) -> None:
    form = Form(trial(cluster, *settings, served=served))
    form.create(engines())
    assert form.told == told
    assert not api.asked("POST", SETS.plural)
    form.scale("prefill", 0)
    assert api.asked("PATCH")[-1].path.endswith("/deployments/kar-disagg-prefill")


def test_a_refused_set_is_left_for_deployments(cluster: Cluster, api: ApiServer) -> None:
    form = Form(trial(cluster))
    api.answers.append(refusal(403, "Forbidden", "User u cannot create leaderworkersets"))
    made = form.create(engines())
    assert {one["kind"] for one in made.values()} == {"Deployment"}
    assert form.told.startswith("Deployments (") and "cannot create" in form.told


def test_sets_without_a_controller_are_removed_again(cluster: Cluster, api: ApiServer) -> None:
    form = Form(trial(cluster, "workload_seconds=0.3"))
    form.create(engines())
    assert names(api, SETS) == []
    assert names(api, kinds.DEPLOYMENT) == ["kar-disagg-decode", "kar-disagg-prefill"]
    assert "kar-disagg-prefill-lws taken up by a controller: not within" in form.told


@pytest.mark.parametrize("reason", ["timeout", "forbidden"])
def test_a_form_that_was_named_is_never_left(cluster: Cluster, api: ApiServer, reason: str) -> None:
    form = Form(trial(cluster, "workload=leaderworkerset", "workload_seconds=0.3"))
    if reason == "forbidden":
        api.answers.append(refusal(403, "Forbidden", "User u cannot create leaderworkersets"))
    with pytest.raises(HarnessError) as found:
        form.create(engines())
    assert found.value.fault.reason == reason
    assert not api.asked("POST", kinds.DEPLOYMENT.plural)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("leaderworkerset", "serves no leaderworkersets of leaderworkerset.x-k8s.io/v1"),
        ("statefulset", "'statefulset'"),
    ],
)
def test_a_form_that_is_not_there_is_an_unusable_setting(
    cluster: Cluster, wanted: str, told: str
) -> None:
    with pytest.raises(HarnessError, match=told) as found:
        Form(trial(cluster, f"workload={wanted}", served=frozenset()))
    assert found.value.fault.reason == "unusable_setting"


def test_every_finding_tells_the_form() -> None:
    (found,) = judge.judge("disaggregation.streaming", seen(workload=TOLD), profile.default())
    told = {one.name: one.value for one in found.facts}
    assert told["prefill and decode deployed as"] == TOLD


@pytest.mark.parametrize(
    ("settings", "asked"), [([], True), (["deployment"], False), (["leaderworkerset"], True)]
)
def test_its_right_is_asked_for_only_where_it_may_be_used(settings: list[str], asked: bool) -> None:
    topic, check = find("disaggregation.streaming")
    chosen = profile.load(None, [f"disaggregation.workload={one}" for one in settings])
    rights = {one.resource: one for one in topic.rights(check, chosen)}
    assert (SETS.plural in rights) is asked
    assert all(rights[one].optional for one in [SETS.plural] if asked)
    assert not rights["deployments"].optional
