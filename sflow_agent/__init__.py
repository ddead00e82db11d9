"""The agent: one process per node that starts, probes, follows and ends the ranks of a run."""
