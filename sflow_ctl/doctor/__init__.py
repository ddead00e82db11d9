"""Whether nodes are fit for a run: facts in, verdicts out. Pure; `runtime/examination.py` collects the facts."""
