from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from localcluster.addons import ADDONS, CORE_ADDONS, find_addons
from localcluster.addons.install import render, wait_ready
from localcluster.addons.model import Addon, DryRun, Manifest
from localcluster.cluster import LocalCluster
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


def test_a_webhook_that_is_asked_about_everything_comes_last() -> None:
    assert [one.name for one in find_addons(("kueue", "volcano"))][-2:] == ["volcano", "kueue"]


def test_every_image_has_a_full_name() -> None:
    for addon in (*CORE_ADDONS, *ADDONS):
        for image in addon.images:
            registry, _, rest = image.name.partition("/")
            assert "." in registry
            assert ":" in rest
            assert not rest.endswith(":latest")


def test_an_addon_is_ready_when_its_webhooks_answer(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    kubectl = tmp_path / "kubectl"
    # The first call finds no webhook; the words and the objects are those of a dry run.
    kubectl.write_text(
        f'#!/bin/sh\necho "$@" >> {seen}\ncat >> {seen}\n'
        f"test $(grep -c dry-run=server {seen}) -gt 1 || {{ echo no webhook >&2; exit 1; }}\n"
    )
    kubectl.chmod(0o700)
    addon = Addon(
        name="a", builds=(), images=(), idle_cpu_seconds=0, ready=(DryRun("kind: Pod\n"),)
    )
    wait_ready(addon, cast("LocalCluster", SimpleNamespace(kubectl=[str(kubectl)])))
    assert seen.read_text().count("kind: Pod") == 2
    seen.unlink()
    with pytest.raises(ClusterError, match="a is not ready after 0 s: no webhook"):
        wait_ready(addon, cast("LocalCluster", SimpleNamespace(kubectl=[str(kubectl)])), timeout=0)


def test_every_image_is_made_of_programs_that_its_addon_builds() -> None:
    for addon in (*CORE_ADDONS, *ADDONS):
        built = {wheel.name for wheel in addon.wheels}
        for one in addon.builds:
            built |= {one.name} if one.source else {path.rsplit("/", 1)[1] for path in one.packages}
        assert {program for image in addon.images for program in image.programs.values()} <= built
