"""Container images without a registry: made here, imported into every node.

An image has one layer and is packed as an OCI layout in a tar file. The layer stays
uncompressed: it never travels, and unpacking it on three nodes is part of every start.
"""

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcluster.gobuild import exclusively
from localcluster.paths import cache, private_folder
from localcluster.progress import Progress
from localcluster.shell import run

PAUSE = "docker.io/kar-checks/pause:local"
#: The images for probe pods, by what they are for; one image bears both names.
PROBE_IMAGES = {
    "python": "docker.io/kar-checks/python:local",
    "net": "docker.io/kar-checks/net:local",
}
NONROOT = 65532

PROBE_PACKAGES = (
    "busybox-static",
    "coreutils",
    "dash",
    "ethtool",
    "iperf3",
    "iproute2",
    "libpython3-stdlib",
    "python3-minimal",
)
_SUITE = "bookworm"
_RECIPE = 1
# Documentation, package lists, and Perl, which every Debian has and no probe calls: unpacking
# on three nodes is a good part of a start.
_UNWANTED = re.compile(
    r"(usr/share/(doc|man|info|locale|lintian)|var/(cache|lib/apt|lib/dpkg|log)|dev)(/|$)"
    r"|usr/(bin/perl|(share|lib/[^/]+)/(perl|libperl|gconv))"
)
_PASSWD = f"root:x:0:0::/root:/bin/sh\nnonroot:x:{NONROOT}:{NONROOT}::/tmp:/bin/sh\n"
_GROUP = f"root:x:0:\nnonroot:x:{NONROOT}:\n"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class ImageConfig:
    """What the runtime has to know to start an image."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    user: str = str(NONROOT)
    environment: Sequence[str] = field(default=(f"PATH={_PATH}",))


def architecture() -> str:
    """This machine's architecture in the words of OCI."""
    machine = run(["uname", "-m"]).stdout.strip()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _add(tar: tarfile.TarFile, path: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _add_folder(tar: tarfile.TarFile, path: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def write_layer(target: Path, programs: Mapping[str, Path]) -> None:
    """A layer with programs at given paths and what a non-root program expects to find."""
    with tarfile.open(target, "w") as tar:
        _add_folder(tar, "etc")
        _add(tar, "etc/passwd", _PASSWD.encode())
        _add(tar, "etc/group", _GROUP.encode())
        _add_folder(tar, "tmp", 0o1777)
        _add_programs(tar, programs)


def _add_programs(tar: tarfile.TarFile, programs: Mapping[str, Path]) -> None:
    for path, program in programs.items():
        _add(tar, path.lstrip("/"), program.read_bytes(), 0o755)


def write_image(
    target: Path, names: Iterable[str], layer: Path, config: ImageConfig, arch: str
) -> None:
    """Pack a layer as an image that bears one or more names."""
    with layer.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    described = _json(
        {
            "architecture": arch,
            "os": "linux",
            "config": {
                "User": config.user,
                "Env": list(config.environment),
                "Entrypoint": list(config.entrypoint),
                "Cmd": list(config.command),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    )
    image = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{image}.manifest.v1+json",
            "config": _descriptor(f"{image}.config.v1+json", described),
            "layers": [
                {
                    "mediaType": f"{image}.layer.v1.tar",
                    "digest": f"sha256:{digest}",
                    "size": layer.stat().st_size,
                }
            ],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                _descriptor(f"{image}.manifest.v1+json", manifest)
                | {"annotations": {"io.containerd.image.name": name}}
                for name in names
            ],
        }
    )
    with tarfile.open(target, "w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", index)
        for blob in (described, manifest):
            _add(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        tar.add(layer, f"blobs/sha256/{digest}")


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(blob)}


def program_image(
    name: str, programs: Mapping[str, Path], config: ImageConfig | None = None
) -> Path:
    """An image of static programs; the first one is its entry point unless told otherwise."""
    config = config or ImageConfig(entrypoint=[next(iter(programs))])
    told = [_RECIPE, name, _identities(programs), vars(config)]
    key = hashlib.sha256(_json(told)).hexdigest()[:12]
    target = private_folder(cache() / "images") / f"{_file_name(name)}-{key}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            layer, image = Path(temporary) / "layer.tar", Path(temporary) / "image.tar"
            write_layer(layer, programs)
            write_image(image, [name], layer, config, architecture())
            image.rename(target)
    return target


def _identities(programs: Mapping[str, Path]) -> dict[str, str]:
    """What the programs are: their cache folder is named by everything that they were made from."""
    return {path: "/".join(program.parts[-2:]) for path, program in programs.items()}


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name)


@dataclass(frozen=True)
class DebianImage:
    """An image of Debian packages, with what they depend on, and of programs beside them.

    `label` tells it from others in the cache. `programs` maps a path in the image to a program
    of the machine, `links` a path to where its symbolic link leads.
    """

    label: str
    names: Sequence[str]
    packages: Sequence[str]
    config: ImageConfig
    programs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    links: Mapping[str, str] = field(default_factory=dict[str, str])


#: The image of probe pods: Python's standard library and the usual network tools.
PROBE = DebianImage(
    label="probe",
    names=tuple(PROBE_IMAGES.values()),
    packages=PROBE_PACKAGES,
    config=ImageConfig(command=["python3"]),
    links={"/usr/local/bin/python3": "/usr/bin/python3"},
)


def debian_image(wanted: DebianImage, progress: Progress) -> Path:
    """The file of an image of Debian packages, made if the cache lacks it."""
    told = [_RECIPE, _SUITE, _PASSWD, _UNWANTED.pattern, wanted.label, wanted.names]
    told += [wanted.packages, vars(wanted.config), wanted.links]
    told.append(_identities(wanted.programs))
    key = hashlib.sha256(_json(told)).hexdigest()[:12]
    home = private_folder(cache() / "images")
    target = home / f"{wanted.label}-{_SUITE}-{key}.tar"
    if target.exists():
        return target
    with exclusively(home / f"{target.name}.lock"):
        if not target.exists():
            with progress.heartbeat(f"making the {wanted.label} image from Debian packages"):
                _make_debian_image(target, wanted)
    return target


def _make_debian_image(target: Path, wanted: DebianImage) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        work = Path(temporary)
        root, layer, image = work / "root.tar", work / "layer.tar", work / "image.tar"
        (work / "apt.conf").write_text(_apt_transport())
        run(
            [
                "mmdebstrap",
                "--variant=extract",
                f"--include={','.join(wanted.packages)}",
                f"--aptopt={work / 'apt.conf'}",
                _SUITE,
                root,
                *_debian_sources(),
            ],
            timeout=900,
        )
        debian_layer(root, layer, wanted)
        write_image(image, wanted.names, layer, wanted.config, architecture())
        image.rename(target)


def _apt_transport() -> str:
    """The machine's own settings of how packages are fetched, such as a proxy."""
    lines = run(["apt-config", "dump"]).stdout.splitlines()
    wanted = re.compile(r"Acquire::(https?|Check|Retries)")
    return "\n".join(line for line in lines if wanted.match(line)) + "\n"


def _debian_sources() -> list[Path]:
    """The machine's own sources of Debian packages; none stands for Debian's public mirror."""
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.*"))]
    return [
        file
        for file in files
        if file.suffix in (".list", ".sources")
        and file.is_file()
        and re.search(rf"^[^#]*\b{_SUITE}\b", text := file.read_text(), re.MULTILINE)
        and "/debian" in text
    ]


def debian_layer(root: Path, layer: Path, wanted: DebianImage) -> None:
    """Leave out what no program reads, and add what installing would have made."""
    with tarfile.open(root) as source, tarfile.open(layer, "w") as tar:
        for entry in source:
            path = entry.name.removeprefix("./")
            if _UNWANTED.match(path) or path in ("etc/passwd", "etc/group", "tmp"):
                continue
            tar.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        _add(tar, "etc/passwd", _PASSWD.encode())
        _add(tar, "etc/group", _GROUP.encode())
        _add_folder(tar, "tmp", 0o1777)
        _add_programs(tar, wanted.programs)
        for path, goal in wanted.links.items():
            link = tarfile.TarInfo(path.lstrip("/"))
            link.type, link.linkname = tarfile.SYMTYPE, goal
            tar.addfile(link)


def extended_image(
    target: Path, name: str, base: Path, files: Mapping[str, Path], config: ImageConfig
) -> None:
    """Write an image that has the layer of another image's file, and more files, given by path."""
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        layer = Path(temporary) / "layer.tar"
        with tarfile.open(base) as tar:
            largest = max((one for one in tar if one.isfile()), key=lambda one: one.size)
            source = tar.extractfile(largest)
            if source is None:
                raise ValueError(f"{base} holds no layer")
            with tarfile.open(fileobj=source) as inside, tarfile.open(layer, "w") as out:
                for entry in inside:
                    out.addfile(entry, inside.extractfile(entry) if entry.isreg() else None)
                _add_programs(out, files)
        image = Path(temporary) / "image.tar"
        write_image(image, [name], layer, config, architecture())
        image.rename(target)
