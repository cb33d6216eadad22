from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from kar_checks import profile, pytest_plugin
from kar_checks.checks.registry import topics
from kar_checks.cli import app
from kar_checks.cluster.target import Target
from kar_checks.kit.option import Option
from kar_checks.profile import Profile
from kar_checks.run_options import (
    CLUSTER,
    RUN,
    SELECT,
    all_options,
    arguments,
    build,
    run_line,
    selection_options,
)

OPTIONS = all_options()
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def in_pytest() -> dict[str, Any]:
    """Return the options that the plugin adds, by name."""
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    group = parser.getgroup("kar")
    return {name: option for option in group.options for name in option.names()}


def on_the_command_line(command: str) -> dict[str, Any]:
    return {one.name: one for one in COMMANDS[command].params if one.name != "help"}


def test_each_option_is_declared_once() -> None:
    assert len({one.dest for one in OPTIONS}) == len(OPTIONS)
    assert {one.dest for one in OPTIONS} > {"max_bytes", "target_url", "kar", "kubeconfig"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda one: str(one.dest))
def test_an_option_is_the_same_in_kar_run_and_in_pytest(option: Option) -> None:
    ours = on_the_command_line("run")[option.dest]
    for name in option.pytest_names or (option.name,):
        theirs = in_pytest()[name].attrs()
        assert theirs["help"] == ours.help == option.help
        assert theirs["default"] == option.start
    assert ours.default == option.start
    assert ours.metavar == (option.metavar or None)


def test_kar_run_has_no_option_that_pytest_lacks_but_its_own_quiet() -> None:
    assert set(on_the_command_line("run")) == {one.dest for one in OPTIONS} | {"quiet"}
    assert len(in_pytest()) == len(OPTIONS) + 1  # --set is also --kar-set


@pytest.mark.parametrize("command", ["plan", "doctor", "install"])
def test_other_commands_take_what_chooses_the_cluster_and_the_checks(command: str) -> None:
    wanted = {one.dest for one in (*CLUSTER, *selection_options())}
    assert wanted <= set(on_the_command_line(command))
    assert {one.dest for one in RUN}.isdisjoint(on_the_command_line(command))


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS if one.key], ids=lambda one: str(one.key)
)
def test_the_profile_has_the_key_of_an_option(option: Option) -> None:
    room, _, field = option.key.partition(".")
    if room == "target":
        assert field in Target.model_fields
    else:
        assert option is SELECT or option.key in profile.default().settings


def test_a_topics_options_are_settings_of_its_own_under_its_title() -> None:
    for topic in topics():
        for option in topic.options:
            assert option.key.startswith(f"{topic.id}.")
            (shown,) = [one for one in selection_options() if one.name == option.name]
            assert shown.panel == topic.title


def test_the_profile_is_loaded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[Profile] = []
    load = profile.load

    def counted(path: Path | None, assignments: Sequence[str]) -> Profile:
        loaded.append(load(path, assignments))
        return loaded[-1]

    monkeypatch.setattr(profile, "load", counted)
    (tmp_path / "mine.yaml").write_text("select: [gang]\ntarget: {labels: {a: b}}\n", "utf-8")
    options = build({"profile": tmp_path / "mine.yaml", "max_bytes": 1e12})
    assert loaded == [options.profile]
    assert options.profile.settings["throughput.max_bytes"].value == 10**12
    assert (options.select, options.target.labels) == (["gang"], {"a": "b"})


GIVEN = {
    "kubeconfig": Path("here"),
    "select": ["resize"],
    "max_bytes": 0.0,
    "label": ["a=b", "c=d e"],
    "image": ["python=r.example/p:1"],
    "platform_user": True,
    "max_disruption": "network",
}


def test_the_words_of_another_run_give_the_same_choices() -> None:
    options = build(GIVEN)
    assert arguments(GIVEN, options) == (
        "resize",
        "--image=python=r.example/p:1",
        "--label=a=b",
        "--label=c=d e",
        "--platform-user",
        "--max-bytes=0.0",
    )
    assert options.profile.number("throughput.max_bytes") == 0
    assert options.target.run_as_user is None
    assert run_line(GIVEN, options, ["--image-prefix=m", "--platform-user"]) == (
        "kar run --kubeconfig=here resize --image=python=r.example/p:1 --label=a=b "
        "'--label=c=d e' --platform-user --max-bytes=0.0 --image-prefix=m"
    )
