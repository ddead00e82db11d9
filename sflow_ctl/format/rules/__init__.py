"""Rules of the format that types cannot express, one module per subject; `document.check_rules` runs all."""
