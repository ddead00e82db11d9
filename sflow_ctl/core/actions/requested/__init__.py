"""What operators ask of a live run, one module for each kind of request. Few runs import these."""
