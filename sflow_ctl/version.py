"""The version of the package.

A constant: reading it from the installation takes a tenth of a first task's time.
"""

VERSION = "0.2.0"
