"""What monitors do on a node: reads its load, watches the windows of tasks, runs the scripts of the user."""
