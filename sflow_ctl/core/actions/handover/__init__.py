"""What tasks hand to each other, and conditions on it. Few runs have any: the modules are imported when one has."""
