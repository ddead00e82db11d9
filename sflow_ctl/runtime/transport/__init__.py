"""How packets travel between a controller and its agents, and to viewers: through the network, or on one machine."""
