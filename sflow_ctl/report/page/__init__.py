"""The report of a run as one HTML page that needs nothing else: made from `report.json`'s data alone. Pure."""
