"""Planning: from a checked document to a plan with each task's nodes, GPUs, argv, environment and probes.

Pure; runs before the first process starts.
"""
