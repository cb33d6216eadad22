"""Several stored runs together: side by side, and night after night. Needs no cluster."""
