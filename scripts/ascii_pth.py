"""Make the environment of an editable project start in any locale: ``python ascii_pth.py VENV``.

The interpreter reads ``.pth`` files in the locale's encoding when it starts. In the C locale that
is ASCII, and a project in a folder with another character ends it before anything runs. Written as
an import line with escaped bytes, the same path needs no encoding.
"""

import sys
from pathlib import Path


def main(environment: str) -> None:
    """Rewrite every ``.pth`` file with a path that is not ASCII."""
    for file in Path(environment).glob("lib/python*/site-packages/*.pth"):
        lines = file.read_bytes().splitlines()
        if all(one.isascii() for one in lines):
            continue
        file.write_text("".join(f"{_escaped(one)}\n" for one in dict.fromkeys(lines)), "ascii")


def _escaped(line: bytes) -> str:
    if line.isascii():
        return line.decode()
    return f"import os, sys; sys.path.append(os.fsdecode({line!r}))"


if __name__ == "__main__":
    main(sys.argv[1])
