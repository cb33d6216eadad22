"""Loads the plugin in a checkout; nothing else."""

pytest_plugins = ["kar_checks.pytest_plugin"]
