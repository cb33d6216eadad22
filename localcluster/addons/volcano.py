"""Volcano: a scheduler of its own for groups of pods, with its controllers and its admission."""

from localcluster.addons.model import Addon, AddonImage, Chart, Rollout
from localcluster.gobuild import GoBuild

_MODULE, _VERSION = "volcano.sh/volcano", "v1.14.1"
_NAMESPACE = "volcano-system"
_REGISTRY = "docker.io"
_IMAGES = {
    "scheduler_image_name": ("vc-scheduler", {"/vc-scheduler": "scheduler"}),
    "controller_image_name": (
        "vc-controller-manager",
        {"/vc-controller-manager": "controller-manager"},
    ),
    "admission_image_name": (
        "vc-webhook-manager",
        # Upstream's image has a script of this name, with openssl and kubectl for it.
        {
            "/vc-webhook-manager": "webhook-manager",
            "/gen-admission-secret.sh": "admission-secret",
        },
    ),
}

VOLCANO = Addon(
    name="volcano",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="volcano",
            module=_MODULE,
            version=_VERSION,
            packages=tuple(
                f"{_MODULE}/cmd/{name}"
                for name in ("scheduler", "controller-manager", "webhook-manager")
            ),
            # The module's own copy of its API is not part of what other modules see of it, and
            # no later version of the API is published.
            replaces={"volcano.sh/apis": "volcano.sh/apis v1.14.0"},
        ),
        GoBuild(name="admission-secret", source="admission-secret"),
    ),
    images=tuple(
        AddonImage(name=f"{_REGISTRY}/volcanosh/{name}:{_VERSION}", programs=programs)
        for name, programs in _IMAGES.values()
    ),
    installs=(
        Chart(
            path="installer/helm/chart/volcano",
            module=_MODULE,
            version=_VERSION,
            release="volcano",
            namespace=_NAMESPACE,
            values={
                "basic": {
                    **{key: f"volcanosh/{name}" for key, (name, _) in _IMAGES.items()},
                    # The chart still names the release before.
                    "image_tag_version": _VERSION,
                    "image_pull_policy": "IfNotPresent",
                },
            },
        ),
    ),
    ready=tuple(
        Rollout(_NAMESPACE, f"deployment/volcano-{name}")
        for name in ("admission", "controllers", "scheduler")
    ),
)
