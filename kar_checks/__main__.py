"""``python -m kar_checks``: the command ``kar``."""

from kar_checks.cli import main

main()
