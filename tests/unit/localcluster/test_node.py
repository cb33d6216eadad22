from pathlib import Path

import pytest

from localcluster import node, paths
from localcluster.layout import NODES


def mounted(script: str) -> list[tuple[str, str]]:
    """What is mounted or moved where, in this order."""
    words = [line.split() for line in script.splitlines() if line.startswith("mount ")]
    return [(line[-2], line[-1]) for line in words if "--make-rshared" not in line]


def test_everything_of_a_node_is_mounted_below_what_covers_the_machines_folders() -> None:
    covered: set[Path] = set()
    for source, target in mounted(node.namespace_script(NODES[0])):
        place = Path(target)
        if source == str(paths.node_folder("kar1") / "cover"):
            covered.add(place)
        elif place.is_relative_to(source_of_covers := paths.node_folder("kar1") / "cover"):
            assert source_of_covers.is_relative_to(paths.STATE)
        elif place != source_of_covers:
            assert covered & set(place.parents), f"{place} is the machine's"
    assert covered == {Path("/etc"), *node.COVERED}
    assert {str(path) for path in covered}.isdisjoint(node.STANDARD_PATHS)


def test_the_state_and_the_programs_stay_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    cover = paths.node_folder("kar2") / "cover"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/lib/my cache")
    script = node.namespace_script(NODES[1])
    assert f"mount -n --bind {paths.STATE} {cover}/kar-checks/local-cluster\n" in script
    programs = "'/var/lib/my cache/kar-checks'"
    assert f"mount -n --bind {programs} '{cover}/my cache/kar-checks'\n" in script
    monkeypatch.setenv("XDG_CACHE_HOME", "/srv/cache")
    assert "/srv/cache" not in node.namespace_script(NODES[1])
