"""``kar install``: a CronJob that runs checks in the cluster, with least rights and a volume."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import yaml

from kar_checks.cluster import kinds
from kar_checks.cluster.access import ONLY_FOR, rbac_objects
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import USER
from kar_checks.options import Options, UsageError
from kar_checks.plan import longest, needed_rights

NAME = "kar-checks"
_MANY_NODES = 10_000
"""The manifests are made without the cluster: as if it were as large as any."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

# The words of the user are arguments and never part of the script.
_SCRIPT = """\
keep=$1; shift
kar run --in-cluster --output /runs "$@"; run=$?
kar regress --output /runs; change=$?
kar prune --output /runs --keep "$keep"
case $run in 0|1|11) ;; *) exit $run;; esac
case $change in 11) exit 0;; *) exit $change;; esac
"""

_RBAC = "rbac.authorization.k8s.io"
KINDS = {
    kind.kind: kind
    for kind in (
        kinds.NAMESPACE,
        Kind("", "v1", "serviceaccounts", "ServiceAccount"),
        Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        Kind("batch", "v1", "cronjobs", "CronJob"),
        Kind(_RBAC, "v1", "roles", "Role"),
        Kind(_RBAC, "v1", "rolebindings", "RoleBinding"),
        Kind(_RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False),
        Kind(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    )
}


def named(options: Options) -> Options:
    """Return the options with the cluster's name: every pod alike calls it ``in-cluster``.

    Raises:
        UsageError: no cluster is named, and no name is given.
        HarnessError: the kubeconfig cannot be read.
    """
    if options.cluster_name:
        return options
    if not options.names_a_cluster or options.in_cluster:
        raise UsageError(
            "the pages of this cluster need a name: give --cluster-name, or the --kubeconfig or "
            "--context whose cluster it is"
        )
    connection = connect(options.kubeconfig, options.context)
    return replace(options, cluster_name=connection.cluster or connection.context)


@dataclass(frozen=True)
class Install:
    """What a user chose about the CronJob."""

    runner: str
    namespace: str
    schedule: str
    keep: int
    storage: str
    storage_class: str
    words: Sequence[str]
    """Arguments of ``kar run``."""


def objects(options: Options, chosen: Install) -> list[Object]:
    """Return everything to apply, in order.

    Raises:
        UsageError: the namespace is none, or the schedule has not five fields.
    """
    if not _NAMESPACE.fullmatch(chosen.namespace):
        raise UsageError(f"--job-namespace {chosen.namespace!r} is not a valid namespace name")
    if len(chosen.schedule.split()) != 5 and not chosen.schedule.startswith("@"):
        raise UsageError(f"--schedule {chosen.schedule!r} does not have the five fields of cron")
    if options.profile_file is not None:
        raise UsageError("a profile's file does not exist in the pod: pass its settings with --set")
    rights = needed_rights(options.selection, options.target, options.profile)
    place = chosen.namespace
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place, "labels": levels}},
        *rbac_objects(rights, namespace=options.target.namespace, subject_namespace=place),
        _claim(chosen),
        _cron_job(chosen, options, longest(options.selection, options.profile, _MANY_NODES)),
    ]


def _claim(chosen: Install) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": chosen.storage}},
    }
    if chosen.storage_class:
        spec["storageClassName"] = chosen.storage_class
    meta = {"name": NAME, "namespace": chosen.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def _cron_job(chosen: Install, options: Options, seconds: float) -> Object:
    target = options.target
    container: Object = {
        "name": "kar",
        "image": chosen.runner,
        "command": ["sh", "-c", _SCRIPT, "kar", str(chosen.keep), *chosen.words],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - of the container
        "resources": {
            "requests": {"cpu": "50m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "runs", "mountPath": "/runs"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of the container
        ],
    }
    security: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if target.run_as_user is not None:
        security |= {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    pod: Object = {
        "serviceAccountName": NAME,
        "restartPolicy": "Never",
        "nodeSelector": {"kubernetes.io/os": "linux", **target.node_selector},
        "tolerations": [one.object() for one in target.tolerations],
        "imagePullSecrets": [{"name": one} for one in target.pull_secrets],
        "securityContext": security,
        "containers": [container],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": NAME}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": NAME, "namespace": chosen.namespace},
        "spec": {
            "schedule": chosen.schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    # A second try would hide what the first one found.
                    "backoffLimit": 0,
                    "activeDeadlineSeconds": max(3600, round(2 * seconds)),
                    "template": {
                        "metadata": {"labels": {"app.kubernetes.io/name": NAME}},
                        "spec": pod,
                    },
                }
            },
        },
    }


def text(made: Sequence[Object]) -> str:
    """Return the objects as YAML documents, with what only a person can do as a comment."""
    (cron,) = [one for one in made if one["kind"] == "CronJob"]
    image = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"]
    head = (
        f"# The image {' '.join(str(image).split())} must contain this suite as `kar`: build it\n"
        "# and push it to your registry, see docs/install.md. A failed Job means that something\n"
        "# regressed or could not be assessed: see its log and history.html on the volume.\n"
    )
    return head + yaml.safe_dump_all(made, sort_keys=False, explicit_start=True)


def apply(made: Sequence[Object], options: Options) -> None:
    """Apply the objects on the server's side, and print what was applied.

    Raises:
        ApiError: the server refused one; those before it are applied.
        HarnessError: the cluster cannot be reached.
    """
    cluster = Cluster(connect(options.kubeconfig, options.context, in_cluster=options.in_cluster))
    try:
        for body in made:
            kind, meta = KINDS[body["kind"]], body["metadata"]
            try:
                _apply(cluster, kind, body)
            except ApiError as error:
                # Whoever may not touch namespaces was given one.
                given = kind is kinds.NAMESPACE and error.status == 403
                # Rights on something that is not here, and that nothing depends on.
                needless = ONLY_FOR in meta.get("annotations", {}) and error.status == 404
                if not (given or needless):
                    raise
                continue
            print(f"# applied: {kind.kind} {meta['name']}")
    finally:
        cluster.close()


def _apply(cluster: Cluster, kind: Kind, body: Object) -> None:
    meta = body["metadata"]
    cluster.call(
        "PATCH",
        kind.path(meta.get("namespace", ""), meta["name"]),
        body=body,
        query=[("fieldManager", NAME), ("fieldValidation", "Strict")],
        content_type="application/apply-patch+yaml",
    )
