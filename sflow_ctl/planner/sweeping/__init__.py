"""From a sweep as written to its cells, and to the tasks of each cell."""
