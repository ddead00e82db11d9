"""The run directory: writes its files, reads them back, finds runs."""
