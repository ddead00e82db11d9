"""What events do to a run: functions that change its data and act through `Effects`, one module for each subject."""
