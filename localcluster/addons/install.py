"""Building, importing, applying and waiting for add-ons, whatever they are."""

import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from localcluster.addons.model import (
    Addon,
    AddonImage,
    Chart,
    DryRun,
    Manifest,
    NodeFile,
    Objects,
    Rollout,
)
from localcluster.cluster import LocalCluster
from localcluster.errors import ClusterError
from localcluster.gobuild import GoBuild, build
from localcluster.images import DebianImage, ImageConfig, debian_image, program_image
from localcluster.programs import HELM
from localcluster.progress import Progress
from localcluster.releases import Release
from localcluster.shell import run
from localcluster.upstream import Wanted, upstream_files
from localcluster.wheels import wheel_program

ROLLOUT_SECONDS = 180
HELM_SECONDS = 180
_NEW_KIND_SECONDS = 30.0
_POLL_SECONDS = 0.25


def addon_images(addon: Addon, go: str, progress: Progress) -> list[Path]:
    """The add-on's images, built if need be, as files to import."""
    programs = {wheel.name: wheel_program(wheel, progress) for wheel in addon.wheels}
    for wanted in addon.builds:
        programs |= {program.name: program for program in build(wanted, go, progress).iterdir()}
    return [_image(image, programs, progress) for image in addon.images]


def _image(image: AddonImage, built: Mapping[str, Path], progress: Progress) -> Path:
    programs = {path: built[program] for path, program in image.programs.items()}
    if not image.packages:
        return program_image(image.name, programs, image.config)
    config = image.config or ImageConfig(entrypoint=[next(iter(programs))])
    label = next(iter(image.programs.values()))
    return debian_image(
        DebianImage(label, (image.name,), image.packages, config, programs, image.links), progress
    )


def render(manifest: Manifest, text: str) -> str:
    """A manifest's text with its substitutions made."""
    for pattern, replacement in manifest.substitutions.items():
        text, count = re.subn(pattern, replacement.replace("\\", r"\\"), text)
        if count == 0:
            raise ClusterError(f"{manifest.path} has no {pattern!r} to replace")
    return text


def install(addon: Addon, cluster: LocalCluster, go: str) -> None:
    """Create the add-on's objects."""
    release = cluster.settings.release
    for one in addon.installs:
        match one:
            case Manifest():
                apply_text(manifest_text(one, release), cluster.kubectl)
            case Objects():
                apply_text(one.text, cluster.kubectl)
            case Chart():
                helm = build(HELM, go, Progress()) / "helm"
                _install_chart(one, release, [str(helm), f"--kubeconfig={cluster.kubeconfig}"])


def _wanted(one: Manifest | Chart, release: Release) -> Wanted:
    return one.module, one.version or f"v{release.kubernetes}", one.path


def wanted_upstream(addon: Addon, release: Release) -> list[Wanted]:
    """The files of modules that installing the add-on reads."""
    found = [one for one in addon.installs if isinstance(one, (Manifest, Chart))]
    found += [file for one in found if isinstance(one, Chart) for file in one.files.values()]
    return [_wanted(one, release) for one in found]


def builds_of(addon: Addon) -> list[GoBuild]:
    """Everything that is built for the add-on."""
    charts = any(isinstance(one, Chart) for one in addon.installs)
    return [*addon.builds, *([HELM] if charts else [])]


def manifest_text(manifest: Manifest, release: Release) -> str:
    """The text of a manifest in its module, with its substitutions made."""
    module, version, path = _wanted(manifest, release)
    files = upstream_files(module, version, path)
    if not files:
        raise ClusterError(f"{module} {version} has no {path}")
    return render(manifest, "\n---\n".join(file.read_text() for file in files))


def _install_chart(chart: Chart, release: Release, helm: list[str]) -> None:
    source = upstream_files(*_wanted(chart, release))[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / source.name
        # Helm wants some charts completed.
        shutil.copytree(source, folder)
        for name, manifest in chart.files.items():
            (folder / name).write_text(manifest_text(manifest, release))
        run(
            [
                *helm,
                "upgrade",
                chart.release,
                folder,
                "--install",
                "--create-namespace",
                f"--namespace={chart.namespace}",
                "--values=-",
                f"--timeout={HELM_SECONDS}s",
            ],
            stdin=yaml.safe_dump(dict(chart.values)),
            timeout=HELM_SECONDS + 10,
        )


def apply_text(objects: str, kubectl: list[str]) -> None:
    """Create objects from their YAML; a kind that was defined just before is waited for."""
    apply = [*kubectl, "apply", "--server-side", "--field-manager=kar-checks-local", "-f", "-"]
    deadline = time.monotonic() + _NEW_KIND_SECONDS
    while True:
        done = run(apply, stdin=objects, check=False)
        new = "no matches for kind" in done.stderr and time.monotonic() < deadline
        if done.returncode == 0:
            return
        if not new:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ClusterError(f"objects cannot be created: {said[-1] if said else 'no reason'}")
        time.sleep(0.2)


def wait_ready(addon: Addon, cluster: LocalCluster, timeout: float = ROLLOUT_SECONDS) -> None:
    """Wait until workloads are rolled out, files are on every node, and webhooks answer."""
    for one in addon.ready:
        match one:
            case Rollout():
                run(
                    [
                        *cluster.kubectl,
                        "rollout",
                        "status",
                        one.workload,
                        f"--namespace={one.namespace}",
                        f"--timeout={timeout:.0f}s",
                    ],
                    timeout=timeout + 10,
                )
            case DryRun():
                _wait_admitted(addon, one, cluster.kubectl, timeout)
            case NodeFile():
                _wait_for_file(one.path, cluster, timeout)


def _wait_for_file(path: str, cluster: LocalCluster, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for node in cluster.nodes:
        while node.exec(["test", "-e", path], check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise ClusterError(f"{path} is not on {node.name} within {timeout:.0f} s")
            time.sleep(_POLL_SECONDS)


def _wait_admitted(addon: Addon, wanted: DryRun, kubectl: list[str], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    words = [*kubectl, "create", "--dry-run=server", "--request-timeout=5s", "-f", "-"]
    while (done := run(words, stdin=wanted.text, check=False)).returncode != 0:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{addon.name} is not ready after {timeout:.0f} s: {done.stderr.strip()}"
            )
        time.sleep(_POLL_SECONDS)
