"""How one concrete task is planned: its command, environment, probes, ports and policies."""
