"""Facts about this node that ranks depend on: GPUs, network interfaces, memory."""
