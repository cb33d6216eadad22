"""Kueue: groups of pods are admitted by quota, as a whole."""
