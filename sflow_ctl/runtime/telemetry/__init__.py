"""The files in which the measurements of agents are kept: written by the recorder, read by the reader alone."""
