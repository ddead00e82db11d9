"""What can be said of measured series: rates, peaks, sums, the use within windows. Pure."""
