from __future__ import annotations

from kar_checks.cluster.access import ONLY_FOR, NeededRight, missing, rbac_objects
from kar_checks.cluster.client import Object

PODS = [NeededRight(verb, "", "pods", cluster=False) for verb in ("get", "create", "get")]
CONFIG_MAPS = [NeededRight(verb, "", "configmaps", cluster=False) for verb in ("create", "get")]
GROUPS = [NeededRight("create", "scheduling.k8s.io", "podgroups", cluster=False)]
NODES = [NeededRight("list", "", "nodes", cluster=True)]


def rules(objects: list[Object], kind: str) -> list[Object]:
    return [rule for one in objects if one["kind"] == kind for rule in one["rules"]]


def test_in_a_namespace_a_role_is_enough_and_only_the_rest_is_cluster_wide() -> None:
    objects = rbac_objects(
        [*PODS, *CONFIG_MAPS, *GROUPS, *NODES], namespace="team-a", subject_namespace="ci"
    )
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
    ]
    assert rules(objects, "ClusterRole") == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    ]
    assert rules(objects, "Role") == [
        {"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["create", "get"]},
        {"apiGroups": ["scheduling.k8s.io"], "resources": ["podgroups"], "verbs": ["create"]},
    ]


def test_a_role_lives_in_the_namespace_and_is_bound_to_the_account() -> None:
    objects = rbac_objects(PODS, namespace="team-a", subject_namespace="ci", name="kar")
    account, role, binding = objects
    assert account["metadata"] == {"name": "kar", "namespace": "ci"}
    assert role["metadata"] == binding["metadata"] == {"name": "kar", "namespace": "team-a"}
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "kar",
    }
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "kar", "namespace": "ci"}]


def test_without_a_namespace_every_right_holds_everywhere() -> None:
    objects = rbac_objects([*PODS, *NODES], namespace="", subject_namespace="ci")
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ]
    assert "namespace" not in objects[1]["metadata"]
    assert rules(objects, "ClusterRole") == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get"]},
    ]


def test_no_rights_make_no_role() -> None:
    objects = rbac_objects([], namespace="team-a", subject_namespace="ci")
    assert [one["kind"] for one in objects] == ["ServiceAccount"]


def test_only_what_is_not_granted_is_missing() -> None:
    assert missing([*PODS, *NODES], lambda one: not one.cluster) == NODES


def test_rights_in_a_namespace_of_their_own_become_a_role_there() -> None:
    rights = [
        NeededRight("create", "", "pods", cluster=False),
        NeededRight("get", "", "pods/log", cluster=False, namespace="serving"),
        NeededRight("list", "", "nodes", cluster=True),
    ]
    objects = rbac_objects(rights, namespace="kar", subject_namespace="kar")
    roles = {
        (one["kind"], one["metadata"].get("namespace", "")): one["rules"]
        for one in objects
        if one["kind"].endswith("Role")
    }
    assert {place: rules[0]["resources"] for place, rules in roles.items()} == {
        ("ClusterRole", ""): ["nodes"],
        ("Role", "kar"): ["pods"],
        ("Role", "serving"): ["pods/log"],
    }
    assert str(rights[1]) == "get pods/log in the namespace serving"
    own = rbac_objects(rights, namespace="", subject_namespace="kar")
    assert [one["kind"] for one in own if one["kind"].endswith("Role")] == ["ClusterRole", "Role"]


NAMED = NeededRight(
    verb="get",
    group="",
    resource="configmaps",
    cluster=False,
    optional=True,
    namespace="kueue-system",
    name="its-config",
    only_for="how it is configured",
)


def test_a_right_on_one_object_is_for_that_one_only_and_says_what_it_is_for() -> None:
    objects = rbac_objects([*CONFIG_MAPS, NAMED], namespace="team-a", subject_namespace="ci")
    there = [one for one in objects if one["metadata"]["namespace"] == "kueue-system"]
    assert [one["kind"] for one in there] == ["Role", "RoleBinding"]
    assert rules(there, "Role") == [
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": ["its-config"],
            "verbs": ["get"],
        }
    ]
    assert {one["metadata"]["annotations"][ONLY_FOR] for one in there} == {"how it is configured"}
    assert there[1]["subjects"][0]["namespace"] == "ci"
    others = [one for one in objects if one not in there]
    assert rules(others, "Role") == [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"]}
    ]
    assert not any("annotations" in one["metadata"] for one in others)
    assert str(NAMED) == (
        "get configmaps its-config in the namespace kueue-system (only to report how it is "
        "configured)"
    )


def test_what_holds_in_every_namespace_is_not_said_again_for_one() -> None:
    """Such a Role could not even be made where the namespace is missing."""
    objects = rbac_objects([*CONFIG_MAPS, NAMED], namespace="", subject_namespace="ci")
    assert [one["kind"] for one in objects] == [
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    ]
    needed = rbac_objects([*PODS, NAMED], namespace="", subject_namespace="ci")
    assert [one["kind"] for one in needed if one["kind"].endswith("Role")] == [
        "ClusterRole",
        "Role",
    ]
