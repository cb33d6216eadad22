"""Gang scheduling (KAR-53): a group of pods starts together or not at all."""
