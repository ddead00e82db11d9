"""What is noted of jobs of tasks, which their watchers write and the agent reads when one has failed."""
