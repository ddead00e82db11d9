"""Makes one document of several files: deep merge by name, short forms, and what the command line changes."""
