from pathlib import Path

import pytest

from localcluster import upstream
from localcluster.addons import find_addons
from localcluster.addons.install import builds_of, manifest_text, wanted_upstream
from localcluster.addons.model import Manifest
from localcluster.errors import ClusterError
from localcluster.releases import DEFAULT_RELEASE


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module in Go's cache, read-only as they are there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "m@v1"
    (folder / "chart" / "templates").mkdir(parents=True)
    (folder / "chart" / "templates" / "a.yaml").write_text("a: 1\n")
    (folder / "crd").mkdir()
    (folder / "crd" / "x.b.yaml").write_text("b: 2\n")
    (folder / "crd" / "x.a.yaml").write_text("a: 1\n")
    (folder / "crd" / "other.yaml").write_text("c: 3\n")
    (folder / "chart" / "templates").chmod(0o555)

    def found(name: str, version: str) -> Path:
        return folder

    monkeypatch.setattr(upstream, "module_folder", found)
    return folder


def gone(module: str, version: str) -> Path:
    raise ClusterError("no network")


def test_what_starts_read_stays_when_the_module_is_gone(
    module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest(path="crd/x.*.yaml", module="m.example/m", version="v1")
    upstream.keep([("m.example/m", "v1", manifest.path), ("m.example/m", "v1", "chart")])
    monkeypatch.setattr(upstream, "module_folder", gone)
    assert manifest_text(manifest, DEFAULT_RELEASE) == "a: 1\n\n---\nb: 2\n"
    (chart,) = upstream.upstream_files("m.example/m", "v1", "chart")
    assert chart.name == "chart"
    assert (chart / "templates" / "a.yaml").read_text() == "a: 1\n"
    with pytest.raises(ClusterError, match="no network"):
        upstream.upstream_files("m.example/m", "v2", "chart")


def test_a_path_that_a_module_lacks_is_an_error(module: Path) -> None:
    with pytest.raises(ClusterError, match=r"m\.example/m v1 has no nothing\.yaml"):
        manifest_text(Manifest("nothing.yaml", "m.example/m", "v1"), DEFAULT_RELEASE)


def test_everything_that_an_addon_reads_is_known_before() -> None:
    (gateway,) = (one for one in find_addons(("gateway",)) if one.name == "gateway")
    wanted = wanted_upstream(gateway, DEFAULT_RELEASE)
    paths = {path for _, _, path in wanted}
    assert paths >= {"charts/gateway-helm", "charts/gateway-helm/values.tmpl.yaml"}
    assert len(wanted) == 5
    assert [one.name for one in builds_of(gateway)][-1] == "helm"
    (coredns,) = find_addons(())
    assert [version for _, version, _ in wanted_upstream(coredns, DEFAULT_RELEASE)] == [
        f"v{DEFAULT_RELEASE.kubernetes}"
    ]
    assert "helm" not in [one.name for one in builds_of(coredns)]
