"""Self-assessment of Kubernetes clusters for AI workloads: probe, measure, judge, render."""

__version__ = "0.1.0"
