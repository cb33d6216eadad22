"""Bringing a cluster up, from whatever state the machine is in."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups, components, machine, network, node, pki, programs, state
from localcluster.addons import ADDONS, CORE_ADDONS, find_addons
from localcluster.addons.install import (
    addon_images,
    apply_text,
    builds_of,
    install,
    wait_ready,
    wanted_upstream,
)
from localcluster.addons.model import Addon
from localcluster.cluster import LocalCluster, Node
from localcluster.costs import costs, disk_mb, longest_first, slowness
from localcluster.disk import has_compiled, prune, spent
from localcluster.errors import ClusterError
from localcluster.estimate import Forecast, in_words
from localcluster.gang import DROP_FIELD
from localcluster.gobuild import GoBuild, build, exclusively, go_version, programs_of
from localcluster.images import PAUSE, PROBE, debian_image, program_image
from localcluster.layout import CONTROL_PLANE_CGROUP, NODES, NodeLayout
from localcluster.lifecycle import start_component
from localcluster.paths import LOCK, LOGS, cache, private_folder
from localcluster.progress import Progress
from localcluster.releases import RELEASES
from localcluster.resources import share_machine, this_machine
from localcluster.settings import Settings
from localcluster.shell import answer
from localcluster.teardown import remains, tear_down
from localcluster.upstream import keep
from localcluster.wheels import wheel_program

API_SECONDS = 60.0
RUNTIME_SECONDS = 30.0
_POLL_SECONDS = 0.1
#: Builds at a time. Each uses as many cores as it can, so more would only compete.
WORKERS = 2
# How much the other builds give way to the longest one, as `nice` counts.
_BEHIND = 10
SUGGESTION = (
    "meanwhile, in another terminal: `kar list` shows what will be assessed, and docs/ how; "
    'without add-ons (`make scorecard ADDONS= ARGS="resize gang"`) only the core is built'
)


@dataclass(frozen=True)
class Parts:
    """Everything that was built for a cluster."""

    kubernetes: Path
    containerd: Path
    pause: Path
    images: tuple[Path, ...]


@contextmanager
def single() -> Generator[None]:
    """Let only one command change the cluster at a time."""
    with exclusively(LOCK):
        yield


def bring_up(settings: Settings, progress: Progress) -> LocalCluster:
    """The cluster with these settings: the running one if it fits, otherwise a new one."""
    machine.require_root()
    system = machine.require_system()
    addons = find_addons(settings.addons)
    with single():
        running = _running(settings, progress)
        if running:
            return running
        machine.require_memory(this_machine().memory_bytes)
        go = go_version()
        parts = _build(settings, addons, system, go, progress)
        if remains():
            progress.say("removing what an earlier cluster left")
            tear_down(progress)
        network.refuse_overlap()
        return _start(settings, addons, parts, go, progress)


def build_only(settings: Settings, progress: Progress) -> None:
    """Fill the cache with everything that a start with these settings needs."""
    machine.require_root()
    system = machine.require_system()
    _build(settings, find_addons(settings.addons), system, go_version(), progress)


def prune_cache() -> dict[str, int]:
    """Give back what later starts do not need; returns the bytes, by what they were."""
    record = state.load()
    used = [Path(folder) for folder in record.binaries.values()] if record else []
    try:
        go = go_version()
    except ClusterError:
        return prune(None, used)
    wanted = [
        one
        for release in RELEASES
        for one in needed_builds(Settings(kubernetes=release.kubernetes), (*CORE_ADDONS, *ADDONS))
    ]
    return prune([programs_of(one, go) for one in wanted], used)


def _running(settings: Settings, progress: Progress) -> LocalCluster | None:
    try:
        record = state.load()
    except ClusterError as error:
        progress.say(str(error))
        return None
    if record is None or not record.ready:
        return None
    if record.settings != settings:
        progress.say(
            f"a cluster with {record.settings.describe()} is running; "
            f"replacing it by {settings.describe()}"
        )
        return None
    cluster = LocalCluster(record)
    reason = cluster.unready_reason()
    if reason:
        progress.say(f"the running cluster is broken ({reason}); making a new one")
        return None
    progress.say(f"already running: {settings.describe()}")
    return cluster


def needed_builds(settings: Settings, addons: Sequence[Addon]) -> list[GoBuild]:
    """Everything that is built for a cluster, each once, in the order in which it is begun.

    Kubernetes first: it takes longer than all others together, and is what they have in common.
    """
    others = [programs.CONTAINERD, programs.PAUSE]
    others += [one for addon in addons for one in builds_of(addon)]
    once = [one for place, one in enumerate(others) if one not in others[:place]]
    return [programs.kubernetes(settings.release), *longest_first(once)]


def _announce(missing: Sequence[GoBuild], progress: Progress) -> None:
    """Check the disk; say what will be built, how long it takes and what disk it needs."""
    expected = costs(missing, empty=not has_compiled())
    needed = disk_mb(expected.values())
    machine.require_disk(needed)
    if not missing:
        return
    slow = slowness()
    weights = {name: one.cpu_seconds * slow for name, one in expected.items()}
    forecast = Forecast(weights, min(os.cpu_count() or 1, WORKERS))
    free = shutil.disk_usage(machine.existing(cache())).free
    progress.say(
        f"building {len(missing)} programs from source, once for all later starts: "
        f"about {in_words(forecast.seconds_left({}, 0))}, and {needed / 1000:.1f} GB of disk in "
        f"{cache()} ({free / 1e9:.0f} GB free), most of which `kar cluster prune` gives back later"
    )
    progress.foretell(forecast, SUGGESTION)


def _build(
    settings: Settings,
    addons: Sequence[Addon],
    system: machine.System,
    go: str,
    progress: Progress,
) -> Parts:
    """Build what the cache lacks."""
    if not system.tried:
        progress.say(f"nobody has reported a start on {system.name} yet; please report yours")
    builds = needed_builds(settings, addons)
    missing = [one for one in builds if not programs_of(one, go).is_dir()]
    _announce(missing, progress)
    machine.install_packages(system, progress)
    with spent(missing), ThreadPoolExecutor(WORKERS) as pool:
        probe = pool.submit(debian_image, PROBE, progress)
        wheels = [
            pool.submit(wheel_program, wheel, progress)
            for addon in addons
            for wheel in addon.wheels
        ]
        _make_programs(missing, go, progress)
        for fetched in (probe, *wheels):
            fetched.result()
        keep(one for addon in addons for one in wanted_upstream(addon, settings.release))
        pause = programs_of(programs.PAUSE, go) / "pause"
        made = [pool.submit(addon_images, addon, go, progress) for addon in addons]
        return Parts(
            kubernetes=programs_of(programs.kubernetes(settings.release), go),
            containerd=programs_of(programs.CONTAINERD, go),
            pause=pause,
            images=(
                program_image(PAUSE, {"/pause": pause}),
                probe.result(),
                *(image for images in made for image in images.result()),
            ),
        )


def _make_programs(missing: Sequence[GoBuild], go: str, progress: Progress) -> None:
    """Build programs, in this order.

    The compilers of the first, the longest one, go before those of the others. These wait for each
    other on what it leaves of the second core, and find compiled what they have in common with it.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        made = [
            pool.submit(build, one, go, progress, niceness=_BEHIND if place else 0)
            for place, one in enumerate(missing)
        ]
        wait(made, return_when=FIRST_EXCEPTION)
        # When one has failed, those that have not begun.
        pool.shutdown(wait=False, cancel_futures=True)
    for one in made:
        if not one.cancelled():
            one.result()


def _start(
    settings: Settings, addons: Sequence[Addon], parts: Parts, go: str, progress: Progress
) -> LocalCluster:
    progress.say(f"starting {settings.describe()}")
    record = state.State(
        settings,
        binaries={"kubernetes": str(parts.kubernetes), "containerd": str(parts.containerd)},
    )
    # Recorded before the first change to the machine, so that the end knows of everything.
    record.save()
    private_folder(LOGS)
    cgroups.create(CONTROL_PLANE_CGROUP, with_pods=False)
    pki.write_all()
    network.create()
    cluster = LocalCluster(record)
    with ThreadPoolExecutor(1 + len(NODES)) as pool:
        runtimes = [pool.submit(_start_runtime, record, layout, parts) for layout in NODES]
        _start_control_plane(record, cluster, settings, parts, progress)
        progress.say("the control plane answers; joining the nodes")
        # Beside the add-ons: a chart's hook runs a pod, and pods reach the API through Services.
        joined = pool.submit(_join, record, runtimes, parts)
        if settings.gang == "api-only":
            apply_text(DROP_FIELD, cluster.kubectl)
        for addon in addons:
            install(addon, cluster, go)
        joined.result()
    cluster.ready()
    progress.say("all nodes are Ready; waiting for the add-ons")
    for addon in addons:
        wait_ready(addon, cluster)
    record.ready = True
    record.save()
    progress.say(f"ready: {settings.describe()}; kubeconfig {cluster.kubeconfig}")
    return cluster


def _start_control_plane(
    record: state.State,
    cluster: LocalCluster,
    settings: Settings,
    parts: Parts,
    progress: Progress,
) -> None:
    binaries = parts.kubernetes
    progress.say("starting etcd and the API server")
    start_component(record, components.etcd(binaries))
    start_component(record, components.apiserver(binaries, settings))
    readyz = [*cluster.kubectl, "get", "--raw", "/readyz", "--request-timeout=2s"]
    _wait(
        lambda: answer(readyz) == "ok",
        API_SECONDS,
        "the API server does not answer",
        cluster,
        ("etcd", "kube-apiserver"),
    )
    # Not earlier: without the built-in roles the controller manager gives up.
    start_component(record, components.controller_manager(binaries, settings))
    start_component(record, components.scheduler(binaries, settings))


def _start_runtime(record: state.State, layout: NodeLayout, parts: Parts) -> None:
    """Make a node, start its containerd, and fill it with images before anything wants one."""
    cluster = LocalCluster(record)
    share = share_machine(this_machine(), len(NODES))
    cgroups.create(layout.name, with_pods=True)
    node.prepare(layout, share)
    holder = components.holder(layout, node.holder_argv(layout, parts.pause))
    start_component(record, holder)
    process = record.processes[holder.name]
    # From then on the namespace is complete.
    _wait(
        lambda: Path(f"/proc/{process.pid}/exe").readlink() == parts.pause.resolve(),
        RUNTIME_SECONDS,
        f"the namespaces of {layout.name} cannot be made",
        cluster,
        (holder.name,),
    )
    containerd = components.containerd(parts.containerd, layout)
    start_component(record, containerd)
    here = Node(layout, process.pid)
    ctr = [f"{parts.containerd}/ctr", f"--address={node.CONTAINERD_SOCKET}", "--namespace=k8s.io"]
    _wait(
        lambda: answer([*node.enter_argv(process.pid), *ctr, "version"]) is not None,
        RUNTIME_SECONDS,
        f"containerd of {layout.name} does not answer",
        cluster,
        (containerd.name,),
    )
    for image in parts.images:
        here.exec([*ctr, "images", "import", str(image)])
    start_component(record, components.kubelet(parts.kubernetes, layout, record.settings))


def _join(record: state.State, runtimes: Sequence[Future[None]], parts: Parts) -> None:
    """Complete the nodes with what needs the API server's answers."""
    for runtime, layout in zip(runtimes, NODES, strict=True):
        runtime.result()
        start_component(record, components.kube_proxy(parts.kubernetes, layout))


def _wait(
    done: Callable[[], bool],
    timeout: float,
    otherwise: str,
    cluster: LocalCluster,
    needed: Sequence[str],
) -> None:
    """Wait for something that needs some components; raises at once when one of them ends."""
    deadline = time.monotonic() + timeout
    while not done():
        dead = next((name for name in needed if not cluster.alive(name)), None)
        if dead:
            raise ClusterError(f"{otherwise}: {dead} ended", cluster.log(dead))
        if time.monotonic() > deadline:
            raise ClusterError(f"{otherwise} within {timeout:.0f} s", cluster.log(needed[-1]))
        time.sleep(_POLL_SECONDS)


def bring_down(progress: Progress) -> bool:
    """Remove the cluster or its remains; says whether there was any."""
    machine.require_root()
    with single():
        if not remains():
            return False
        tear_down(progress)
        return True
