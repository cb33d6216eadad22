"""Building programs from Go modules into the per-user cache.

`go install MODULE@VERSION` refuses modules that replace others. What works for all is a small
module of our own that requires the wanted one, repeats its replacements and starts from its
checksums.
"""

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localcluster.errors import ClusterError
from localcluster.paths import GO_SOURCES, cache, private_folder
from localcluster.progress import Progress, Step
from localcluster.shell import run

MINIMUM_GO = (1, 26)
BUILD_TIMEOUT = 3600.0
# Counts changes of how things are built, which the description of a build cannot show.
_RECIPE = 1


@dataclass(frozen=True)
class GoBuild:
    """Programs that come from one Go module, or from a folder of sources of ours.

    With `source` the program is built from that folder under `localcluster/go` and is called
    `name`; otherwise `packages` are built and are called by their last path element. `links`
    are further names for the single program. `local_replaces` is the version that stands in
    for replacements by a folder inside the module (`k8s.io/api => ./staging/…`).
    """

    name: str
    module: str | None = None
    version: str = "v0.0.0"
    packages: tuple[str, ...] = ()
    source: str | None = None
    links: tuple[str, ...] = ()
    requires: Mapping[str, str] = field(default_factory=dict[str, str])
    replaces: Mapping[str, str] = field(default_factory=dict[str, str])
    local_replaces: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    shares: tuple["GoBuild", ...] = ()


def parse_go_version(text: str) -> tuple[int, int]:
    """The major and minor version in what `go env GOVERSION` prints."""
    match = re.match(r"go(\d+)\.(\d+)", text)
    if not match:
        raise ClusterError(f"cannot read the version of Go from {text.strip()!r}")
    return int(match[1]), int(match[2])


@functools.cache
def go_environment() -> dict[str, str]:
    """The environment of every `go` command.

    What is compiled and downloaded has caches of its own, so that it can be given back without
    touching what the user's other projects need. Modules that the user's own cache has are taken
    from there. Whoever names a cache in the environment gets that one.
    """
    found = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    if "GOCACHE" not in os.environ:
        found["GOCACHE"] = str(cache() / "compiled")
    if "GOMODCACHE" not in os.environ:
        found["GOMODCACHE"] = str(cache() / "modules")
        users, proxies = run(["go", "env", "GOMODCACHE", "GOPROXY"]).stdout.splitlines()
        downloaded = Path(users) / "cache" / "download"
        if downloaded.is_dir():
            found["GOPROXY"] = f"{downloaded.as_uri()},{proxies}"
    return found


def go_version() -> str:
    """The version of the installed Go; raises when it is missing or too old."""
    wanted = ".".join(map(str, MINIMUM_GO))
    if not shutil.which("go"):
        raise ClusterError(
            f"Go is not installed; the local cluster is built with Go {wanted} or later"
        )
    version = run(["go", "env", "GOVERSION"]).stdout.strip()
    if parse_go_version(version) < MINIMUM_GO:
        raise ClusterError(f"the installed Go is {version}; {wanted} or later is needed")
    return version


def module_folder(module: str, version: str) -> Path:
    """The unpacked module in Go's module cache, downloaded if need be."""
    done = run(
        ["go", "mod", "download", "-json", f"{module}@{version}"],
        env=go_environment(),
        check=False,
        timeout=600,
        cwd=Path("/"),
    )
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if "Dir" not in answer:
        raise ClusterError(
            f"cannot download the Go module {module} {version}: "
            f"{answer.get('Error') or done.stderr.strip()}"
        )
    return Path(answer["Dir"])


def replacements(
    gomod: Mapping[str, Any], local_version: str | None, extra: Mapping[str, str]
) -> dict[str, str]:
    """The replacements of a module, as parsed from its go.mod, that hold outside of it too."""
    found: dict[str, str] = {}
    replaced: list[dict[str, dict[str, str]]] = gomod.get("Replace") or []
    for entry in replaced:
        old, new = entry["Old"], entry["New"]
        name = f"{old['Path']} {old['Version']}" if old.get("Version") else old["Path"]
        if not new["Path"].startswith("."):
            found[name] = f"{new['Path']} {new['Version']}"
        elif local_version:
            found[name] = f"{old['Path']} {local_version}"
    return found | dict(extra)


def module_versions(build: GoBuild, gomod: Mapping[str, Any]) -> dict[str, str]:
    """The replacements that take a build's modules, by its parsed go.mod, in its own versions."""
    required: list[dict[str, str]] = gomod.get("Require") or []
    found = {one["Path"]: f"{one['Path']} {one['Version']}" for one in required}
    found |= replacements(gomod, build.local_replaces, build.replaces)
    if build.module:
        found[build.module] = f"{build.module} {build.version}"
    # A replacement of one version alone says nothing about the others.
    return {module: version for module, version in found.items() if " " not in module}


def shared_versions(build: GoBuild, gomods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The replacements that make a build share what it can, by the parsed go.mod of each other."""
    found: dict[str, str] = {}
    for other, gomod in reversed(list(zip(build.shares, gomods, strict=True))):
        found |= module_versions(other, gomod)
    if build.module:
        found.pop(build.module, None)
    return found


def wrapper_gomod(
    build: GoBuild, gomod: Mapping[str, Any], shared: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The go.mod of the small module around a build.

    `gomod` is the parsed go.mod of its own module, `shared` those of the builds that it shares.
    """
    requires = dict(build.requires)
    if build.module:
        requires[build.module] = build.version
    lines = [f"module localcluster.build/{build.name}", "", f"go {gomod['Go']}", ""]
    lines += [f"require {module} {version}" for module, version in sorted(requires.items())]
    replaced = replacements(gomod, build.local_replaces, {})
    replaced |= shared_versions(build, shared) | dict(build.replaces)
    lines += [f"replace {old} => {new}" for old, new in sorted(replaced.items())]
    return "\n".join(lines) + "\n"


def build_key(build: GoBuild, go: str) -> str:
    """What the result of a build depends on, as the name of its cache folder."""
    sources = ""
    if build.source:
        files = sorted((GO_SOURCES / build.source).glob("*.go"))
        sources = "".join(file.read_text() for file in files)
    described = asdict(build)
    if not build.shares:
        # What was built before there was such a thing keeps its name.
        del described["shares"]
    told = json.dumps([_RECIPE, described, go, sources], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    return f"{build.name}-{build.version}-{go}-{digest}"


@contextmanager
def exclusively(path: Path) -> Generator[None]:
    """Hold a lock file, so that two starts do not build the same thing twice."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def programs_of(wanted: GoBuild, go: str) -> Path:
    """The folder that a build's programs are in once it is built."""
    return cache() / "go" / build_key(wanted, go)


def build(wanted: GoBuild, go: str, progress: Progress, *, niceness: int = 0) -> Path:
    """The folder with the built programs, from the cache if they were built before.

    `niceness` lets other builds go first: 0 nobody, 19 everybody.
    """
    home = private_folder(cache() / "go")
    target = programs_of(wanted, go)
    if target.is_dir():
        return target
    with exclusively(home / f"{target.name}.lock"):
        if not target.is_dir():
            what = f"building {wanted.name} {wanted.version} with {go}"
            with progress.heartbeat(what, wanted.name) as step:
                _build(wanted, home, target, step, niceness)
    return target


def _module(wanted: GoBuild) -> tuple[dict[str, Any], bytes]:
    """The parsed go.mod of a build's module, and its checksums."""
    if not wanted.module:
        return {"Go": ".".join(map(str, MINIMUM_GO))}, b""
    folder = module_folder(wanted.module, wanted.version)
    gomod: dict[str, Any] = json.loads(
        run(["go", "mod", "edit", "-json", folder / "go.mod"]).stdout
    )
    return gomod, (folder / "go.sum").read_bytes()


def _build(wanted: GoBuild, home: Path, target: Path, step: Step, niceness: int) -> None:
    """Build into a folder of the cache."""
    gomod, checksums = _module(wanted)
    shared = [_module(other) for other in wanted.shares]
    checksums = b"".join([checksums, *(sums for _, sums in shared)])
    with tempfile.TemporaryDirectory(dir=home, prefix=".build-") as temporary:
        work = Path(temporary)
        (work / "go.mod").write_text(wrapper_gomod(wanted, gomod, [other for other, _ in shared]))
        (work / "go.sum").write_bytes(checksums)
        if wanted.source:
            for file in (GO_SOURCES / wanted.source).glob("*.go"):
                shutil.copy(file, work)
        result = work / "bin"
        result.mkdir()
        flags = " ".join(
            ["-s", "-w", *(f"-X {name}={value}" for name, value in wanted.variables.items())]
        )
        log = home / f"{target.name}.log"
        argv = [
            *("nice", "-n", str(niceness), "go", "build"),
            *("-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", flags),
            *("-o", f"{result}/", *(wanted.packages or (".",))),
        ]
        if _run_measured(argv, work, log, step) != 0:
            raise ClusterError(f"building {wanted.name} {wanted.version} failed", log)
        for link in wanted.links:
            (result / link).symlink_to(wanted.name)
        result.rename(target)


def _run_measured(argv: Sequence[str], work: Path, log: Path, step: Step) -> int:
    """Run a program to its end with its output in a log; returns its exit code."""
    with log.open("w") as output:
        process = subprocess.Popen(
            argv,
            cwd=work,
            env=go_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    step.pid = process.pid
    late = threading.Timer(BUILD_TIMEOUT, os.kill, (process.pid, signal.SIGKILL))
    late.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        late.cancel()
    # Tells the process object what it can no longer ask for.
    process.returncode = os.waitstatus_to_exitcode(status)
    step.cpu_seconds = usage.ru_utime + usage.ru_stime
    return process.returncode
