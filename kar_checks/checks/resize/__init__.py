"""In-place resize of pods: a prerequisite from base conformance, not a line of the checklist."""
