from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kar_checks.cluster.target import IMAGES, Target
from kar_checks.commands import images as command
from kar_checks.images import Reference, copying, look, parse
from kar_checks.options import Options
from tests.unit.apiserver import free_port

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("python", ("docker.io", "library/python", "latest", "")),
        ("nicolaka/netshoot:v1", ("docker.io", "nicolaka/netshoot", "v1", "")),
        (f"r.example:5000/a/b:1@{DIGEST}", ("r.example:5000", "a/b", "1", DIGEST)),
        (f"localhost/b@{DIGEST}", ("localhost", "b", "", DIGEST)),
    ],
)
def test_a_reference_has_parts(given: str, parts: tuple[str, str, str, str]) -> None:
    assert parse(given) == Reference(*parts)


def test_what_is_no_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="is not an image reference"):
        parse("a b@sha256:1")


@pytest.mark.parametrize("tool", ["crane", "skopeo"])
def test_an_image_is_copied_from_its_digest_to_its_tag(tool: str) -> None:
    made = copying(tool, f"docker.io/library/p:1@{DIGEST}", f"m.example/x/library/p:1@{DIGEST}")
    assert made[:2] == [tool, "copy"]
    assert made[-2].removeprefix("docker://") == f"docker.io/library/p@{DIGEST}"
    assert made[-1].removeprefix("docker://") == "m.example/x/library/p:1"
    assert ("--all" in made) == ("--preserve-digests" in made) == (tool == "skopeo")


# -- what registries say -----------------------------------------------------------------------


@dataclass
class Registry:
    """Manifests by digest; may want a token, or credentials."""

    wants: str = ""
    broken: bool = False
    manifests: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def put(self, content: object) -> str:
        body = json.dumps(content).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.manifests[digest] = body
        return digest

    def index(self, *architectures: str) -> str:
        parts = [
            {
                "digest": self.put({"layers": [], "of": one}),
                "platform": {"os": "linux", "architecture": one},
            }
            for one in architectures
        ]
        return self.put({"manifests": parts})

    def image(self, digest: str) -> str:
        return f"127.0.0.1:{self.port}/x/p:1@{digest}"


@pytest.fixture
def registry() -> Iterator[Registry]:
    it = Registry()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

        def do_GET(self) -> None:
            it.asked.append(self.path)
            if self.path.startswith("/token?"):
                return self.answer(200, b'{"token": "t"}')
            if it.broken:
                return self.answer(503)
            if it.wants and self.headers.get("Authorization") != "Bearer t":
                return self.answer(401)
            body = it.manifests.get(self.path.removeprefix("/v2/x/p/manifests/"))
            return self.answer(200 if body else 404, body or b"")

        def answer(self, code: int, body: bytes = b"") -> None:
            self.send_response(code)
            if code == 401:
                self.send_header("WWW-Authenticate", it.wants)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    it.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield it
    server.shutdown()
    server.server_close()


BOTH = ("amd64", "arm64")


def test_a_whole_image_is_there(registry: Registry) -> None:
    seen = look(registry.image(registry.index(*BOTH)), BOTH)
    assert (seen.state, seen.told) == ("there", "with linux/amd64, linux/arm64")
    assert look(registry.image(registry.put({"layers": []})), BOTH).state == "there"


def test_an_anonymous_token_is_asked_for(registry: Registry) -> None:
    registry.wants = (
        f'Bearer realm="http://127.0.0.1:{registry.port}/token",service="s",scope="pull"'
    )
    assert look(registry.image(registry.index(*BOTH)), BOTH).state == "there"
    assert registry.asked.count("/token?service=s&scope=pull") == 1


def test_what_is_missing_or_another_is_not_there(registry: Registry) -> None:
    one = registry.index("amd64")
    assert look(registry.image(DIGEST), BOTH).told == "the registry does not have it"
    assert look(registry.image(one), BOTH).told == "it has nothing for linux/arm64"
    both = registry.index(*BOTH)
    part = json.loads(registry.manifests[both])["manifests"][1]["digest"]
    del registry.manifests[part]
    seen = look(registry.image(both), BOTH)
    assert (seen.state, seen.told) == ("not there", "its part for linux/arm64 was not copied")
    registry.manifests[DIGEST] = b"{}"
    seen = look(registry.image(DIGEST), BOTH)
    assert seen.state == "not there"
    assert seen.told.startswith("the registry sends another one, sha256:44136fa355b3678a")


def test_what_cannot_be_asked_is_not_known(registry: Registry) -> None:
    image = registry.image(registry.index(*BOTH))
    registry.wants = 'Basic realm="r"'
    seen = look(image, BOTH)
    assert seen.state == "not known"
    assert (
        "asked anonymously, and it asks for credentials; ask it with your credentials" in seen.told
    )
    registry.broken = True
    assert "it answers 503" in look(image, BOTH).told
    gone = look(f"127.0.0.1:{free_port()}/x/p@{DIGEST}", BOTH)
    assert (gone.state, "Connection refused" in gone.told) == ("not known", True)
    assert "it has no digest" in look("127.0.0.1:1/x/p:1", BOTH).told
    registry.broken, registry.wants = False, ""
    text = b"<html>"
    digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
    registry.manifests[digest] = text
    assert look(registry.image(digest), BOTH).told == "the registry's answer is not a manifest"


# -- the commands ------------------------------------------------------------------------------


def asked(**target: object) -> Options:
    return Options(select=["resize"], target=Target.model_validate(target))


def test_verify_ends_by_what_it_found(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    there, gone = registry.image(registry.index(*BOTH)), registry.image(DIGEST)
    assert command.verify(asked(images={"python": there})) == 0
    assert command.verify(asked(images={"python": gone})) == 1
    assert command.verify(asked(images={"python": "127.0.0.1:1/p:1"})) == 11
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"python\t{there}\tthere: with linux/amd64, linux/arm64"
    assert "not there" in lines[1]
    assert "not known" in lines[2]


def test_mirror_prints_and_runs_the_users_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    prefix = "mirror.example/x"
    digest = IMAGES["python"].partition("@")[2]
    line = f"crane copy docker.io/library/python@{digest} {prefix}/library/python:3.13-slim\n"
    assert command.mirror(asked(image_prefix=prefix), "", execute=False) == 0
    assert capfd.readouterr().out == line
    with pytest.raises(ValueError, match="crane or skopeo is not on the PATH"):
        command.mirror(asked(image_prefix=prefix), "", execute=True)
    for code in (0, 3):
        tool = tmp_path / "crane"
        tool.write_text(
            f"#!{sys.executable} -S\nimport sys\nprint(*sys.argv[1:])\nsys.exit({code})\n"
        )
        tool.chmod(0o755)
        assert command.mirror(asked(image_prefix=prefix), "", execute=True) == (10 if code else 0)
        assert capfd.readouterr().out.startswith(line + line.removeprefix("crane "))


def test_mirror_leaves_out_what_is_named_and_wants_a_prefix(
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = asked(image_prefix="m.example", images={"python": "own.example/p:1"})
    assert command.mirror(named, "skopeo", execute=False) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="--image-prefix"):
        command.mirror(asked(), "", execute=False)
    with pytest.raises(ValueError, match="--tool must be one of crane, skopeo"):
        command.mirror(named, "docker", execute=False)
