"""Networks that pods are attached to besides the pod network (KAR-10)."""
