"""The controller and its command line: everything that is decided, and everything a person sees."""
