"""From a configuration of slurmforge to a workflow file. Pure but for reading scripts, which its caller does.

slurmforge is another program for training jobs on Slurm. Its two generations, 0.x and 1.x, have files of different keys; both
become one experiment (`experiment.py`), of which a workflow is written. Called by `sflow-ctl init --from-slurmforge`.
Source: what slurmforge 0.2.2 and 1.2.3 write and do (PyPI).
"""
