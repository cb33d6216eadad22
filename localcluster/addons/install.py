"""Building, importing, applying and waiting for add-ons, whatever they are."""

import re
from pathlib import Path

from localcluster.addons.model import Addon, Manifest
from localcluster.errors import ClusterError
from localcluster.gobuild import build, module_folder
from localcluster.images import program_image
from localcluster.progress import Progress
from localcluster.releases import Release
from localcluster.shell import run

ROLLOUT_SECONDS = 180


def addon_images(addon: Addon, go: str, progress: Progress) -> list[Path]:
    """The add-on's images, built if need be, as files to import."""
    folder = build(addon.build, go, progress)
    return [
        program_image(
            image.name, {path: folder / program for path, program in image.programs.items()}
        )
        for image in addon.images
    ]


def render(manifest: Manifest, text: str) -> str:
    """A manifest's text with its substitutions made."""
    for pattern, replacement in manifest.substitutions.items():
        text, count = re.subn(pattern, replacement.replace("\\", r"\\"), text)
        if count == 0:
            raise ClusterError(f"{manifest.path} has no {pattern!r} to replace")
    return text


def apply(addon: Addon, release: Release, kubectl: list[str]) -> None:
    """Create the add-on's objects."""
    for manifest in addon.manifests:
        version = manifest.version or f"v{release.kubernetes}"
        source = module_folder(manifest.module, version) / manifest.path
        apply_text(render(manifest, source.read_text()), kubectl)


def apply_text(objects: str, kubectl: list[str]) -> None:
    """Create objects from their YAML."""
    run(
        [*kubectl, "apply", "--server-side", "--field-manager=kar-checks-local", "-f", "-"],
        stdin=objects,
    )


def wait_ready(addon: Addon, kubectl: list[str], timeout: float = ROLLOUT_SECONDS) -> None:
    """Wait until the add-on's workloads are rolled out."""
    for rollout in addon.ready:
        run(
            [
                *kubectl,
                "rollout",
                "status",
                rollout.workload,
                f"--namespace={rollout.namespace}",
                f"--timeout={timeout:.0f}s",
            ],
            timeout=timeout + 10,
        )
