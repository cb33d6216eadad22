from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.ownership import (
    Leftover,
    Workspace,
    find_dependents,
    find_leftovers,
    owner_lives,
    owner_mark,
    remove_all,
    runs_at_work,
)
from kar_checks.cluster.target import Target
from tests.unit.apiserver import HANG_UP, LOSE, Answer, ApiServer, refusal

RUN = "20261122-101504-9f3a"


def workspace(cluster: Cluster, namespace: str = "", seconds: float = 20) -> Workspace:
    return Workspace(
        cluster,
        Target(namespace=namespace),
        run_id=RUN,
        until=time.time() + 60,
        cleanup_seconds=seconds,
    )


def config_map(name: str, **meta: Any) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}}


def names(api: ApiServer) -> list[str]:
    return [key[3] for key in api.objects]


# -- who owns it -------------------------------------------------------------------------------


def test_the_mark_of_this_process_lives() -> None:
    mark = owner_mark(time.time() - 100)
    assert mark.split("/")[:2] == [socket.gethostname(), str(os.getpid())]
    assert owner_lives(mark)


def test_a_process_that_ended_does_not_live() -> None:
    code = "from kar_checks.cluster.ownership import owner_mark; print(owner_mark(9e9))"
    mark = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert len(mark.split("/")) == 4
    assert not owner_lives(mark)


def test_a_process_number_that_was_used_again_does_not_live() -> None:
    host, pid, start, until = owner_mark(time.time() + 100).split("/")
    assert not owner_lives(f"{host}/{pid}/{int(start) - 1}/{until}")


@pytest.mark.parametrize(("moment", "lives"), [(999.0, True), (1000.0, False), (1001.0, False)])
def test_on_another_host_the_end_of_the_run_decides(moment: float, lives: bool) -> None:
    assert owner_lives("another-host/1/2/1000", moment=moment) is lives


@pytest.mark.parametrize("mark", ["", "x", "a/b/c", "another-host/1/2/soon", "a/b/c/d/e"])
def test_what_is_no_mark_does_not_live(mark: str) -> None:
    assert not owner_lives(mark)


def test_a_mark_of_this_host_without_a_process_does_not_live() -> None:
    assert not owner_lives(f"{socket.gethostname()}/999999999//9999999999")


# -- making and removing -----------------------------------------------------------------------


def test_a_run_makes_its_own_namespace_restricted(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster)
    work.open()
    made = api.objects["v1", "", "namespaces", f"kar-{RUN}"]
    assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert work.close().verdict == "clean"
    assert names(api) == []


def test_a_namespace_of_the_user_is_used_and_left(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "team-a")
    work.open()
    assert api.requests == []
    work.create(kinds.CONFIG_MAP, config_map("one"))
    assert list(api.objects) == [("v1", "team-a", "configmaps", "one")]
    assert work.close().removed == 1
    assert {one.path for one in api.asked("DELETE")} == {"/api/v1/namespaces/team-a/configmaps/one"}


def test_everything_goes_in_reverse_order_by_its_uid(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster)
    work.open()
    made = [work.create(kinds.CONFIG_MAP, config_map(name)) for name in ("one", "two")]
    done = work.close()
    assert (done.verdict, done.removed, done.leaks) == ("clean", 3, [])
    deletes = api.asked("DELETE")
    assert [one.path.rpartition("/")[2] for one in deletes] == ["two", "one", f"kar-{RUN}"]
    uids = [one.body["preconditions"]["uid"] for one in deletes]
    assert uids[:2] == [one["metadata"]["uid"] for one in reversed(made)]


def test_what_was_made_is_recorded_with_its_mutations(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    stored = work.dressed(config_map("one", uid="u1", resourceVersion="4", namespace="ns"))
    stored["metadata"]["labels"]["kar-checks.dev/run"] = "changed"
    api.answers.append(Answer(201, stored))
    work.create(kinds.CONFIG_MAP, config_map("one"))
    assert [(one.kind, one.name, one.uid) for one in work.made] == [("ConfigMap", "one", "u1")]
    assert [one.field for one in work.mutations] == ["metadata.labels.kar-checks.dev/run"]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(403, "Forbidden", 'pods "p" is forbidden: exceeded quota: q'),
        refusal(409, "AlreadyExists", "already exists"),
        refusal(422, "Invalid", "no"),
    ],
)
def test_what_was_refused_is_not_ours_to_delete(
    cluster: Cluster, api: ApiServer, answer: Answer
) -> None:
    work = workspace(cluster, "ns")
    api.answers.append(answer)
    with pytest.raises(ApiError):
        work.create(kinds.CONFIG_MAP, config_map("one"))
    assert work.close().verdict == "clean"
    assert api.asked("DELETE") == []


def test_the_default_account_of_a_new_namespace_is_waited_for(
    api: ApiServer, cluster: Cluster
) -> None:
    early = 'error looking up service account ns/default: serviceaccount "default" not found'
    api.answers.extend([refusal(403, "Forbidden", early)] * 2)
    work = workspace(cluster, "ns")
    stored = work.create(kinds.CONFIG_MAP, config_map("one"))
    assert stored["metadata"]["uid"]
    assert [one.method for one in api.requests] == ["POST"] * 3


def test_what_may_have_been_made_behind_an_error_is_removed(
    cluster: Cluster, api: ApiServer
) -> None:
    work = workspace(cluster, "ns")
    ours = work.dressed(config_map("one"))
    api.answers.append(refusal(500, "InternalError", "etcdserver: request timed out"))
    with pytest.raises(ApiError):
        work.create(kinds.CONFIG_MAP, config_map("one"))
    api.add({**ours, "metadata": {**ours["metadata"], "namespace": "ns"}}, "configmaps")
    assert work.close().removed == 1
    assert names(api) == []


def test_an_object_of_somebody_else_of_the_same_name_is_left(
    cluster: Cluster, api: ApiServer
) -> None:
    work = workspace(cluster, "ns")
    api.add(config_map("one", namespace="ns"), "configmaps")
    api.answers.append(refusal(500, "InternalError", "boom"))
    with pytest.raises(ApiError):
        work.create(kinds.CONFIG_MAP, config_map("one"))
    assert work.delete(kinds.CONFIG_MAP, "one") is True
    assert work.close() == remove_all(cluster, [], run_id=RUN, seconds=1)
    assert names(api) == ["one"]


def test_an_object_that_took_the_name_later_is_left(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    work.create(kinds.CONFIG_MAP, config_map("one"))
    api.add(config_map("one", namespace="ns", uid="of-another"), "configmaps")
    done = work.close()
    assert (done.verdict, done.removed) == ("clean", 0)
    assert names(api) == ["one"]


def test_a_create_whose_answer_was_lost_is_removed(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    api.answers.append(LOSE)
    work.create(kinds.CONFIG_MAP, config_map("one"))
    assert work.close().removed == 1


def test_a_connection_lost_for_good_leaves_the_object_listed(
    cluster: Cluster, api: ApiServer
) -> None:
    work = workspace(cluster, "ns")
    cluster.stop()  # nothing is tried again
    api.answers.append(LOSE)
    with pytest.raises(HarnessError):
        work.create(kinds.CONFIG_MAP, config_map("one"))
    cluster.resume()
    assert names(api) == ["one"]
    assert work.close().removed == 1
    assert names(api) == []


def test_deleting_early_waits_and_is_not_done_twice(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    work.create(kinds.CONFIG_MAP, config_map("one"))
    assert work.delete(kinds.CONFIG_MAP, "one")
    assert work.close().removed == 0
    assert len(api.asked("DELETE")) == 1


def test_without_waiting_an_object_stays_registered(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    work.create(kinds.CONFIG_MAP, config_map("one", finalizers=["example.com/hold"]))
    assert work.delete(kinds.CONFIG_MAP, "one", seconds=0) is False
    api.objects["v1", "ns", "configmaps", "one"]["metadata"]["finalizers"] = []
    assert work.close().removed == 1


def test_what_is_not_ours_cannot_be_deleted(cluster: Cluster, api: ApiServer) -> None:
    with pytest.raises(HarnessError, match="was not created by kar-checks and is not deleted"):
        workspace(cluster, "ns").delete(kinds.CONFIG_MAP, "one")
    assert api.requests == []


def test_a_leak_names_what_holds_it_and_the_rest_still_goes(
    cluster: Cluster, api: ApiServer
) -> None:
    work = workspace(cluster, "ns", seconds=0.1)
    work.create(kinds.CONFIG_MAP, config_map("one"))
    work.create(kinds.CONFIG_MAP, config_map("held", finalizers=["example.com/hold"]))
    done = work.close()
    assert (done.verdict, done.removed) == ("leaked", 1)
    (leak,) = done.leaks
    assert (leak.object.name, leak.object.uid) == ("held", work.made[1].uid)
    assert "held by example.com/hold" in leak.why
    assert f"kar cleanup --run {RUN}" in done.message
    assert names(api) == ["held"]


def test_a_refused_delete_is_a_leak_and_the_rest_still_goes(
    cluster: Cluster, api: ApiServer
) -> None:
    work = workspace(cluster, "ns")
    for name in ("one", "two"):
        work.create(kinds.CONFIG_MAP, config_map(name))
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot delete resource "configmaps"'))
    done = work.close()
    assert [one.object.name for one in done.leaks] == ["two"]
    assert "cannot delete" in done.leaks[0].why
    assert names(api) == ["two"]


def test_an_outage_while_cleaning_up_leaks_nothing(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    work.create(kinds.CONFIG_MAP, config_map("one"))
    api.answers.extend([HANG_UP, LOSE])
    assert work.close().verdict == "clean"
    assert names(api) == []


def test_what_is_kept_says_how_to_look_and_how_to_remove(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster)
    work.open()
    kept = work.kept()
    assert kept.verdict == "kept"
    assert f"kubectl -n kar-{RUN}" in kept.message
    assert f"kar cleanup --run {RUN}" in kept.message
    assert api.asked("DELETE") == []


def test_many_threads_share_a_workspace(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster, "ns")
    threads = [
        threading.Thread(target=work.create, args=(kinds.CONFIG_MAP, config_map(f"c{number}")))
        for number in range(12)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({one.name for one in work.made}) == 12
    assert work.close().removed == 12


# -- what a killed run left --------------------------------------------------------------------


def test_leftovers_are_found_by_label_with_run_and_owner(cluster: Cluster, api: ApiServer) -> None:
    work = workspace(cluster)
    work.open()
    work.create(kinds.CONFIG_MAP, config_map("one"))
    api.add(config_map("foreign", namespace="ns"), "configmaps")
    other = config_map("other", namespace="ns")
    other["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "kar-checks",
        "kar-checks.dev/run": "another",
    }
    api.add(other, "configmaps")
    searched = [kinds.CONFIG_MAP, kinds.NAMESPACE]
    found = find_leftovers(cluster, searched)
    assert {one.name for one in found} == {"one", "other", f"kar-{RUN}"}
    mine = find_leftovers(cluster, searched, run_id=RUN)
    assert [(one.name, one.run_id) for one in mine] == [("one", RUN), (f"kar-{RUN}", RUN)]
    assert all(owner_lives(one.owner) for one in mine)
    here = find_leftovers(cluster, searched, namespace="ns")
    assert {one.name for one in here} == {"other"}


def test_what_a_controller_made_for_ours_is_found_by_its_owner(
    cluster: Cluster, api: ApiServer
) -> None:
    pod = Leftover(kinds.POD, "ns", "gang-0", "u1", RUN, "me")
    for name, owner in (("ours", "u1"), ("theirs", "u2")):
        reference = {"apiVersion": "v1", "kind": "Pod", "name": "gang-0", "uid": owner}
        body = config_map(name, namespace="ns", uid=f"uid-{name}", ownerReferences=[reference])
        api.add(body, "configmaps")
    (found,) = find_dependents(cluster, [kinds.CONFIG_MAP], [pod])
    assert (found.name, found.uid, found.run_id, found.owner) == ("ours", "uid-ours", RUN, "me")
    asked = len(api.requests)
    assert find_dependents(cluster, [kinds.CONFIG_MAP], []) == []
    assert len(api.requests) == asked


def test_a_kind_that_is_not_served_is_passed_over(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(refusal(404, "NotFound", "the server could not find the resource"))
    assert find_leftovers(cluster, [kinds.LEASE, kinds.POD]) == []
    assert len(api.requests) == 2


def test_a_kind_that_may_not_be_listed_is_an_error(cluster: Cluster, api: ApiServer) -> None:
    api.answers.append(refusal(403, "Forbidden", 'User "x" cannot list resource "pods"'))
    with pytest.raises(ApiError):
        find_leftovers(cluster, [kinds.POD])


def test_other_runs_at_work_are_noticed_and_dead_ones_are_not(
    cluster: Cluster, api: ApiServer
) -> None:
    workspace(cluster).open()
    for name, owner in (("alive", owner_mark(time.time() + 60)), ("dead", "elsewhere/1/2/3")):
        meta = {
            "name": f"kar-{name}",
            "labels": {"app.kubernetes.io/managed-by": "kar-checks", "kar-checks.dev/run": name},
            "annotations": {"kar-checks.dev/owner": owner},
        }
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
        api.add(body, "namespaces")
    assert runs_at_work(cluster, RUN) == ["alive"]
    assert runs_at_work(cluster, "alive") == [RUN]


def test_what_may_not_be_listed_tells_nothing(cluster: Cluster, api: ApiServer) -> None:
    api.answers += [refusal(403, "Forbidden", 'User "x" cannot list')] * 2
    assert runs_at_work(cluster, RUN) == []
    api.answers.append(refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        runs_at_work(cluster, RUN)
