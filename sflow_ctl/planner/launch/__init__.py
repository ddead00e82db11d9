"""How a task's program is started: its command line, its ranks and its launcher, from script and operator."""
