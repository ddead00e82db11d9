"""Files around a run: samples, settings files, workflow files, stamped directories."""
