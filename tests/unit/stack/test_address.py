"""How a stack is named, and what must never be stored with a run."""

from __future__ import annotations

import pytest

from kar_checks import profile
from kar_checks.checks.stack.address import namespace
from kar_checks.profile import ProfileError
from kar_checks.run_options import build

SECRET = "hunter2hunter2"  # noqa: S105 - no real one


def asked(**settings: str) -> str:
    return namespace(profile.load(None, [f"stack.{key}={one}" for key, one in settings.items()]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"url": "http://router.serving.svc:8000"}, "serving"),
        ({"url": "http://router.serving.svc.cluster.local:8000/v1"}, "serving"),
        ({"url": "http://router.serving"}, "serving"),
        ({"url": "https://llm.example.org", "namespace": "serving"}, "serving"),
        ({"url": "http://router.front.svc", "namespace": "serving"}, "serving"),
        ({"url": "http://r.s.svc", "prefill": "role=p", "decode": "role=d"}, "s"),
    ],
)
def test_the_namespace_is_given_or_follows_from_the_url(
    settings: dict[str, str], expected: str
) -> None:
    assert asked(**settings) == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "router:8000"}, "http:// or https://"),
        ({"url": "ftp://router.serving.svc"}, "http:// or https://"),
        ({"url": f"http://user:{SECRET}@router.serving.svc"}, "no user, password"),
        ({"url": f"http://router.serving.svc/?key={SECRET}"}, "no user, password"),
        ({"url": "https://llm.example.org"}, "--target-namespace"),
        ({"url": "http://10.1.2.3:8000"}, "--target-namespace"),
        ({"url": "http://router.serving.svc", "prefill": "role=p"}, "give both"),
        ({"url": "http://router.serving.svc", "credential": SECRET}, "name of an environment"),
        ({"url": "http://router.serving.svc", "credential": f"sk-{SECRET}"}, "name of an env"),
    ],
)
def test_what_cannot_be_used_is_refused_without_repeating_it(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ProfileError, match=words) as caught:
        asked(**settings)
    assert SECRET not in str(caught.value)


def test_a_variable_that_is_set_names_the_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_TOKEN", SECRET)
    assert asked(url="http://router.serving.svc", credential="STACK_TOKEN") == "serving"


@pytest.mark.parametrize(
    "token", [f'{SECRET}"quoted"', f"{SECRET}\nX-Other: 1", f"{SECRET} two", ""]
)
def test_what_is_no_bearer_token_is_refused_without_repeating_it(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK_TOKEN", token)
    with pytest.raises(ProfileError, match="no bearer token") as caught:
        asked(url="http://router.serving.svc", credential="STACK_TOKEN")
    assert SECRET not in str(caught.value)


def test_the_options_become_settings_and_reach_the_target() -> None:
    options = build(
        {
            "kar": ["41"],
            "set": ["stack.requests=30"],
            "target_url": "http://r.serving.svc",
            "target_model": "m",
        }
    )
    given = {
        key: setting.value
        for key, setting in options.profile.settings.items()
        if setting.origin == "the command line"
    }
    assert given == {
        "stack.requests": 30,
        "stack.url": "http://r.serving.svc",
        "stack.model": "m",
    }
    assert options.target.stack_namespace == "serving"
    assert "stack.transferred" in [check.id for _, check in options.selection]


def test_without_a_url_the_topic_is_not_selected() -> None:
    options = build({})
    assert "stack" in options.unasked
    assert not [check.id for topic, check in options.selection if topic.id == "stack"]
