import pytest

from localcluster.errors import ClusterError
from localcluster.gobuild import (
    GoBuild,
    build_key,
    parse_go_version,
    replacements,
    wrapper_gomod,
)

GOMOD = {
    "Go": "1.26.0",
    "Replace": [
        {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
        {"Old": {"Path": "a.example/x"}, "New": {"Path": "b.example/x", "Version": "v1.2.3"}},
        {
            "Old": {"Path": "c.example/y", "Version": "v1.0.0"},
            "New": {"Path": "../y"},
        },
    ],
}


@pytest.mark.parametrize(
    ("text", "version"),
    [("go1.26.8\n", (1, 26)), ("go1.27rc1", (1, 27)), ("go1.26.0-custom X:foo", (1, 26))],
)
def test_go_versions_are_read(text: str, version: tuple[int, int]) -> None:
    assert parse_go_version(text) == version


def test_a_strange_go_version_is_an_error() -> None:
    with pytest.raises(ClusterError, match="devel"):
        parse_go_version("devel +abc")


def test_local_replacements_are_dropped_without_a_version() -> None:
    assert replacements(GOMOD, None, {}) == {"a.example/x": "b.example/x v1.2.3"}


def test_local_replacements_become_the_given_version() -> None:
    assert replacements(GOMOD, "v0.37.0", {"z.example": "z.example v2.0.0"}) == {
        "k8s.io/api": "k8s.io/api v0.37.0",
        "a.example/x": "b.example/x v1.2.3",
        "c.example/y v1.0.0": "c.example/y v0.37.0",
        "z.example": "z.example v2.0.0",
    }


def test_a_module_without_replacements_has_none() -> None:
    assert replacements({"Go": "1.26", "Replace": None}, "v1.0.0", {}) == {}


def test_the_wrapper_requires_the_module_and_what_comes_with_it() -> None:
    build = GoBuild(
        name="n", module="m.example", version="v1.0.0", requires={"e.example": "v3.0.0"}
    )
    text = wrapper_gomod(build, GOMOD)
    assert text.startswith("module localcluster.build/n\n\ngo 1.26.0\n")
    assert "require m.example v1.0.0\n" in text
    assert "require e.example v3.0.0\n" in text
    assert "replace a.example/x => b.example/x v1.2.3\n" in text


def test_what_builds_have_in_common_is_taken_in_one_version() -> None:
    core = GoBuild(name="core", module="core.example", version="v1.0.0", local_replaces="v0.9.0")
    required = [{"Path": "a.example/x", "Version": "v1.0.0"}, {"Path": "n", "Version": "v5.0.0"}]
    gateway = GoBuild(name="g", module="g.example", version="v3.0.0")
    build = GoBuild(
        name="n",
        module="m.example",
        version="v1.0.0",
        shares=(core, gateway),
        replaces={"own.example": "own.example v2.0.0"},
    )
    cores = {**GOMOD, "Require": required}
    gateways = {
        "Go": "1.26.0",
        "Require": [
            {"Path": "n", "Version": "v4.0.0"},
            {"Path": "m.example", "Version": "v0.1.0"},
            {"Path": "only.example", "Version": "v1.1.0"},
            {"Path": "own.example", "Version": "v1.0.0"},
        ],
    }
    text = wrapper_gomod(build, {"Go": "1.26.0"}, [cores, gateways])
    assert sorted(line for line in text.splitlines() if line.startswith("replace")) == [
        # What the other one replaces is replaced here too, before what it requires.
        "replace a.example/x => b.example/x v1.2.3",
        "replace core.example => core.example v1.0.0",
        "replace g.example => g.example v3.0.0",
        "replace k8s.io/api => k8s.io/api v0.9.0",
        # The first one's version wins, and a build's own choice wins over all.
        "replace n => n v5.0.0",
        "replace only.example => only.example v1.1.0",
        "replace own.example => own.example v2.0.0",
    ]


def test_a_build_that_shares_nothing_keeps_its_key() -> None:
    build = GoBuild(name="n", module="m", version="v1.0.0")
    assert build_key(build, "go1.26.8") == "n-v1.0.0-go1.26.8-14ced20b6ecd"


def test_the_cache_key_changes_with_everything_that_matters() -> None:
    builds = [
        GoBuild(name="n", module="m", version="v1.0.0"),
        GoBuild(name="n", module="m", version="v1.0.1"),
        GoBuild(name="n", module="m", version="v1.0.0", replaces={"a": "b v1.0.0"}),
        GoBuild(name="n", source="pause"),
        GoBuild(name="n", source="kubernetes"),
        GoBuild(name="n", shares=(GoBuild(name="o", module="o", version="v1.0.0"),)),
        GoBuild(name="n", shares=(GoBuild(name="o", module="o", version="v1.0.1"),)),
    ]
    keys = {build_key(build, go) for build in builds for go in ("go1.26.8", "go1.27.0")}
    assert len(keys) == 2 * len(builds)
    assert build_key(builds[0], "go1.26.8") == build_key(builds[0], "go1.26.8")
