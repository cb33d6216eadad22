import pytest

from localcluster.addons import ADDONS, CORE_ADDONS, find_addons
from localcluster.addons.install import render
from localcluster.addons.model import Manifest
from localcluster.errors import ClusterError


def test_substitutions_are_made_literally() -> None:
    manifest = Manifest(path="f", substitutions={r"__X__": r"a\1b", r"v[0-9.]+": "local"})
    assert render(manifest, "x: __X__\nimage: i:v1.2\n") == "x: a\\1b\nimage: i:local\n"


def test_a_substitution_that_finds_nothing_is_an_error() -> None:
    with pytest.raises(ClusterError, match="__Y__"):
        render(Manifest(path="f", substitutions={"__Y__": "y"}), "x: 1")


def test_an_unknown_addon_is_refused() -> None:
    assert find_addons(()) == CORE_ADDONS
    with pytest.raises(ClusterError, match="unheard-of"):
        find_addons(("unheard-of",))


def test_every_image_has_a_full_name() -> None:
    for addon in (*CORE_ADDONS, *ADDONS):
        for image in addon.images:
            registry, _, rest = image.name.partition("/")
            assert "." in registry
            assert ":" in rest
            assert not rest.endswith(":latest")


def test_every_image_is_made_of_programs_that_its_addon_builds() -> None:
    for addon in (*CORE_ADDONS, *ADDONS):
        built = {wheel.name for wheel in addon.wheels}
        for one in addon.builds:
            built |= {one.name} if one.source else {path.rsplit("/", 1)[1] for path in one.packages}
        assert {program for image in addon.images for program in image.programs.values()} <= built
