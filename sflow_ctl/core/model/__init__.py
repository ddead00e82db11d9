"""The state of a run as data: tasks, attempts, nodes, phase, timers."""
