"""Every message and value that crosses the link, by subject."""
