"""Disaggregated serving (KAR-41): prefill and decode run apart, and the KV state moves."""
