"""Disaggregated serving by the user's own stack (KAR-41), with a grade of proof."""
