"""What the controller knows of each agent's session, and when an agent counts as lost."""
