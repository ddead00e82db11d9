"""Parts of a plan that grow with values: tasks of which there are as many as a list has items."""
