"""Self-certification: filling the programme's checklist from a run, and checking a filled one."""
