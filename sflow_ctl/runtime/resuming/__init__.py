"""Ways to continue a run, or to begin another one with its plan, beside the plain resume of `runtime/run/resume.py`."""
