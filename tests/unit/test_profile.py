from __future__ import annotations

import re
from pathlib import Path

import pytest

from kar_checks import profile
from kar_checks.profile import ProfileError


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


def setting(key: str, value: str) -> str:
    return f"settings:\n  {key}: {{value: {value}, origin: measured, date: 2026-11-22}}\n"


def test_the_default_profile_says_where_every_number_comes_from() -> None:
    settings = profile.default().settings
    assert settings
    assert all(one.origin and one.date for one in settings.values())


def test_without_a_file_the_default_applies() -> None:
    assert profile.load(None) == profile.default()


def test_a_profile_is_laid_over_the_default(tmp_path: Path) -> None:
    text = "select: [gang]\ntarget: {namespace: team-a}\n" + setting("gang.window_seconds", "45")
    found = profile.load(write(tmp_path, text))
    assert found.number("gang.window_seconds") == 45
    assert found.settings["gang.window_seconds"].origin == "measured"
    assert found.number("cleanup.seconds") == profile.default().number("cleanup.seconds")
    assert (found.name, found.select, found.target) == ("mine", ["gang"], {"namespace": "team-a"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("settings:\n  a: [1,\nb: 2", "not valid YAML at line 3, column 5"),
        ("\tname: x", "not valid YAML at line 1, column 1"),
        ("- a list", "is not a mapping"),
        ("", "is not a mapping"),
        ("settings: [1]", "`settings` is not a mapping"),
        (setting("gang.windw_seconds", "45"), "did you mean gang.window_seconds?"),
        (setting("nothing.like.it", "45"), "sets nothing.like.it, which does not exist"),
        (setting("1", "45"), "sets 1, which does not exist"),
        ("settings:\n  gang.window_seconds: 45\n", "needs a value, an origin and a date"),
        (
            "settings:\n  gang.window_seconds: {value: 45, date: 2026-11-22}\n",
            "needs a value, an origin and a date",
        ),
        (setting("gang.window_seconds", "long"), "needs a value like 30"),
        (setting("gang.window_seconds", "true"), "needs a value like 30"),
        (setting("gang.window_seconds", "'45'"), "needs a value like 30"),
        (setting("gang.window_seconds", "-1"), "must be a number from 0 on"),
        (setting("gang.window_seconds", ".nan"), "must be a number from 0 on"),
        (setting("gang.window_seconds", ".inf"), "must be a number from 0 on"),
        ("colour: red", "colour: "),
        ("select: gang", "select: "),
        ("target: 5", "target: "),
        ("1: 2", "1: Keys should be strings"),
    ],
)
def test_a_profile_that_cannot_be_used_is_a_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ProfileError) as caught:
        profile.load(path)
    told = str(caught.value)
    assert sentence in told
    assert str(path) in told
    assert "\n" not in told


def test_a_profile_that_is_not_there_or_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read: No such file"):
        profile.load(tmp_path / "none.yaml")
    with pytest.raises(ProfileError, match="cannot be read: Is a directory"):
        profile.load(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match="not valid YAML"):
        profile.load(binary)


def test_a_setting_of_the_command_line_wins_and_says_where_it_comes_from() -> None:
    found = profile.load(None, ["gang.window_seconds=12"]).settings["gang.window_seconds"]
    assert (found.value, found.origin) == (12, "the command line")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("gang.window_seconds", "--set needs KEY=VALUE"),
        ("gang.windows=3", "did you mean gang.window_seconds?"),
        ("gang.window_seconds=soon", "needs a value like 30"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(given: str, words: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(words)):
        profile.load(None, [given])


def test_an_old_name_of_a_setting_is_read_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "renamed", lambda: {"gang.patience": "gang.window_seconds"})
    path = write(tmp_path, setting("gang.patience", "45"))
    with pytest.warns(profile.RenamedSetting, match="gang.patience, which is now gang.window_sec"):
        found = profile.load(path)
    assert found.number("gang.window_seconds") == 45
    assert "gang.patience" not in found.settings
    stored = found.model_dump(mode="json")
    stored["settings"]["gang.patience"] = stored["settings"].pop("gang.window_seconds")
    assert profile.stored(stored).number("gang.window_seconds") == 45


def test_every_renamed_setting_exists_under_its_new_name_alone() -> None:
    known = profile.default().settings
    assert set(profile.renamed().values()) <= set(known)
    assert set(profile.renamed()).isdisjoint(known)
