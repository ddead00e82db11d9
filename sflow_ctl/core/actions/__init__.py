"""The effects of events on a run: functions that change its data and act through `Effects`, one module for each subject."""
