"""The style and the script of the page, and the chart library that is bundled into it: uPlot, unchanged, with its licence.

`uplot.json` has the version and the digests of the library's files; `python3 dev.py uplot VERSION` replaces them.
"""
