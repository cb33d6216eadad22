"""Throughput and latency between pods: beyond the programme, decided by a profile."""
