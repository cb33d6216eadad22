"""Inference traffic is routed by what model servers report (KAR-11)."""
