"""The program that uploads files: a process of its own, so that no library of a store is in an agent or controller."""
