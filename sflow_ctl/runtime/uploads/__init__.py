"""Uploads as the controller's shell sees them: what is shown of them, and the archive of a whole run."""
