"""What controller and agent both read of the machine they run on: `/proc`, marks of processes, a pipe for signals.

The only part of `protocol` that does I/O; its other parts never import it.
"""
