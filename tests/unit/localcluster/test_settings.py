import pytest

from localcluster.components import Component, command_line, override_flags
from localcluster.errors import ClusterError
from localcluster.releases import find_release
from localcluster.settings import Settings, parse_settings


@pytest.mark.parametrize("version", ["1.36", "1.36.3", "v1.36.3"])
def test_a_release_is_found_by_minor_and_by_full_version(version: str) -> None:
    release = find_release(version)
    assert (release.kubernetes, release.minor, release.staging) == ("1.36.3", "1.36", "v0.36.3")


def test_an_unknown_release_names_the_known_ones() -> None:
    with pytest.raises(ClusterError, match=r"1\.37\.0, 1\.36\.3"):
        find_release("1.20")


@pytest.mark.parametrize(
    ("kubernetes", "assignments", "gates", "runtime_config"),
    [
        (None, [], {"GenericWorkload": True}, "scheduling.k8s.io/v1beta1=true"),
        (None, ["gang=off"], {"GenericWorkload": False}, "scheduling.k8s.io/v1beta1=false"),
        (
            "1.36",
            ["gang=off", "gang=on"],
            {"GenericWorkload": True, "GangScheduling": True},
            "scheduling.k8s.io/v1alpha2=true",
        ),
        (None, ["gang=api-only"], {"GenericWorkload": True}, "scheduling.k8s.io/v1beta1=true"),
    ],
)
def test_settings_turn_into_flags(
    kubernetes: str | None, assignments: list[str], gates: dict[str, bool], runtime_config: str
) -> None:
    settings = parse_settings(kubernetes, assignments, [])
    assert settings.feature_gates == gates
    assert settings.runtime_config == runtime_config


@pytest.mark.parametrize("assignment", ["gang", "gang=maybe", "colour=red"])
def test_unknown_settings_are_refused(assignment: str) -> None:
    with pytest.raises(ClusterError):
        parse_settings(None, [assignment], [])


def test_the_order_of_addons_makes_no_difference() -> None:
    assert parse_settings(None, [], ["b", "a", "b"]) == Settings(addons=("a", "b"))


def test_an_extra_flag_replaces_the_one_of_the_same_name() -> None:
    assert override_flags(["prog", "--a=1", "--bc=2"], ["--a=3", "--d"]) == [
        "prog",
        "--bc=2",
        "--a=3",
        "--d",
    ]


def test_feature_gates_are_merged_into_one_flag() -> None:
    component = Component("x", ("prog", "--v=1"), feature_gates={"A": True, "B": True})
    assert command_line(component, [], {"B": False, "C": True}) == [
        "prog",
        "--v=1",
        "--feature-gates=A=true,B=false,C=true",
    ]
    assert command_line(Component("y", ("prog",)), [], {}) == ["prog"]
