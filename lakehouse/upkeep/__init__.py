"""Upkeep of a whole lake: finding what is wrong, backing up, restoring.

- `findings`: what a check found, and the command that mends it
- `table_checks`: tables against their declarations, files against the logs, the manifest
- `row_checks`: evidence, vectors, releases and source files against each other
- `backup`: a verified copy of a lake, and a lake from such a copy
- `doctor`: all checks of a lake
"""
