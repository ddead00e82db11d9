"""A plan as text, as a graph, and as JSON."""
