"""Decides where tasks run: their order, nodes and GPUs, what others free for them, and where they may move."""
