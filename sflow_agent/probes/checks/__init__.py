"""The active checks of probes: TCP connect, HTTP request, command."""
