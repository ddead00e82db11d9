"""How measured values are packed: columns of whole numbers, blocks of series, frames in a file. Pure."""
