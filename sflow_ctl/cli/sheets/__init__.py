"""Commands over many rows of a sheet."""
