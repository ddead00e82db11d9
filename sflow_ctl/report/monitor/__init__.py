"""What is made of the readings of monitors: tables, charts, an overview. Pure; `runtime/monitor` reads and writes the files."""
