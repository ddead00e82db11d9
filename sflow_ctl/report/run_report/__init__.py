"""The report of a run as data: `report.json`, from which the HTML page is made. Pure."""
