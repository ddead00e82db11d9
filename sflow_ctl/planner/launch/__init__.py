"""How a task's program is started: from script and operator to a command line, its ranks and its launcher."""
