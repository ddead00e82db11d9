"""Starting, tracking and ending the processes of ranks."""
