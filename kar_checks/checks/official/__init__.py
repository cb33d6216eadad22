"""The official conformance suite of the inference extension, run against a class (KAR-11)."""
