import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

from localcluster.images import (
    NONROOT,
    DebianImage,
    ImageConfig,
    debian_layer,
    write_image,
    write_layer,
)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def _blob(tar: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    algorithm, digest = descriptor["digest"].split(":")
    data = _read(tar, f"blobs/{algorithm}/{digest}")
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == descriptor["size"]
    return data


def test_an_image_is_an_oci_layout_under_all_its_names(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/true\n")
    layer, image = tmp_path / "layer.tar", tmp_path / "image.tar"
    write_layer(layer, {"/usr/bin/program": program})
    config = ImageConfig(entrypoint=["/usr/bin/program"])
    write_image(image, ["docker.io/x/a:1", "docker.io/x/b:1"], layer, config, "amd64")

    with tarfile.open(image) as tar:
        assert json.loads(_read(tar, "oci-layout")) == {"imageLayoutVersion": "1.0.0"}
        index = json.loads(_read(tar, "index.json"))
        names = [m["annotations"]["io.containerd.image.name"] for m in index["manifests"]]
        assert names == ["docker.io/x/a:1", "docker.io/x/b:1"]
        assert len({m["digest"] for m in index["manifests"]}) == 1
        manifest = json.loads(_blob(tar, index["manifests"][0]))
        described = json.loads(_blob(tar, manifest["config"]))
        packed = _blob(tar, manifest["layers"][0])

    assert described["architecture"] == "amd64"
    assert described["config"]["User"] == str(NONROOT)
    assert described["config"]["Entrypoint"] == ["/usr/bin/program"]
    assert described["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(packed).hexdigest()}"]


def test_a_layer_has_what_a_nonroot_program_needs(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"x")
    layer = tmp_path / "layer.tar"
    write_layer(layer, {"/program": program})
    with tarfile.open(layer) as tar:
        assert tar.getmember("tmp").mode == 0o1777
        assert tar.getmember("program").mode == 0o755
        assert f":{NONROOT}:" in _read(tar, "etc/passwd").decode()


def test_a_debian_image_has_its_programs_and_links(tmp_path: Path) -> None:
    program = tmp_path / "proxy"
    program.write_bytes(b"x")
    root, layer = tmp_path / "root.tar", tmp_path / "layer.tar"
    with tarfile.open(root, "w") as tar:
        for name in ("./usr/lib/libc.so.6", "./usr/share/doc/libc6/README", "./etc/passwd"):
            tar.addfile(tarfile.TarInfo(name))
    wanted = DebianImage(
        label="proxy",
        names=("docker.io/x/proxy:1",),
        packages=("libc6",),
        config=ImageConfig(),
        programs={"/usr/local/bin/proxy": program},
        links={"/usr/local/bin/other": "/usr/local/bin/proxy"},
    )
    debian_layer(root, layer, wanted)
    with tarfile.open(layer) as tar:
        assert tar.getmember("usr/local/bin/proxy").mode == 0o755
        assert tar.getmember("usr/local/bin/other").linkname == "/usr/local/bin/proxy"
        assert f":{NONROOT}:" in _read(tar, "etc/passwd").decode()
        assert "./usr/lib/libc.so.6" in tar.getnames()
        assert not [name for name in tar.getnames() if "doc" in name]
