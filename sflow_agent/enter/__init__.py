"""The program that runs one command beside a rank, for `sflow-ctl exec`."""
