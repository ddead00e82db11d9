"""Connections between processes of one machine, and how the loops of both sides wait for them and for sockets."""
