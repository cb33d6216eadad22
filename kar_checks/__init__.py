"""Self-assessment of Kubernetes clusters for AI workloads: probe, measure, judge, render."""

__version__ = "0.2.0"
