"""Files that an agent writes for tasks before they start."""
