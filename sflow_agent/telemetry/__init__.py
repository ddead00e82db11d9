"""What an agent measures of its tasks, GPUs and node without being asked: packed, and sent to the controller."""
