"""Plug-ins for sflow-ctl: an operator, a probe, a backend, and a scheme of artifacts. Nothing of sflow-ctl is imported."""
