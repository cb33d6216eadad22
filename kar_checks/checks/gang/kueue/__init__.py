"""Kueue: groups of pods are admitted by quota, as a whole."""

CONFIG_NAMESPACE, CONFIG_NAME = "kueue-system", "kueue-manager-config"
"""The ConfigMap of Kueue's own configuration, where its chart and manifests put it."""
USERS_QUEUE = "LocalQueue"
"""What the place of a scenario begins with where the queue is the user's."""
