"""The phases of planning: backends, artifacts, variables, expansion, placement."""
