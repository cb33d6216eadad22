"""``kar images``: which there are, how to mirror them, whether a registry has them."""

from __future__ import annotations

import shlex
import shutil
import subprocess

from kar_checks import images
from kar_checks.cluster.target import Target
from kar_checks.exits import Exit
from kar_checks.options import Options
from kar_checks.plan import needed_images


def show(options: Options) -> None:
    """Print one image a line: name and reference."""
    for name, reference in needed_images(options.selection, options.target).items():
        print(f"{name}\t{reference}")


def mirror(options: Options, tool: str, *, execute: bool) -> int:
    """Print, or run, a command for each image that copies it to ``--image-prefix``.

    An image that was named by ``--image`` is where it is.

    Raises:
        ValueError: there is no prefix, or no such tool.
    """
    target = options.target
    if not target.image_prefix:
        raise ValueError("name the registry to copy to: --image-prefix")
    if tool and tool not in images.TOOLS:
        raise ValueError(f"--tool must be one of {', '.join(images.TOOLS)}")
    here = next((one for one in images.TOOLS if shutil.which(one)), "")
    if execute and not (shutil.which(tool) if tool else here):
        raise ValueError(f"{tool or ' or '.join(images.TOOLS)} is not on the PATH")
    chosen = tool or here or images.TOOLS[0]
    for name, source in needed_images(options.selection, Target()).items():
        if name in target.images:
            continue
        command = images.copying(chosen, source, target.mirrored(source))
        print(shlex.join(command), flush=True)
        if execute and (code := subprocess.run(command, check=False).returncode):
            print(f"{chosen} ended with {code}: {name} is not copied, nor what comes after it")
            return int(Exit.HARNESS)
    return int(Exit.OK)


def verify(options: Options) -> int:
    """Ask the registries for each image; 1 if one is not there, 11 if one cannot be asked for."""
    states: set[str] = set()
    for name, reference in needed_images(options.selection, options.target).items():
        seen = images.look(reference, options.target.architectures)
        print(f"{name}\t{reference}\t{seen.state}: {seen.told}", flush=True)
        states.add(seen.state)
    if "not there" in states:
        return int(Exit.FAILED)
    return int(Exit.UNDECIDED if "not known" in states else Exit.OK)
