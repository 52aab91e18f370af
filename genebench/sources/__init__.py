"""Source files: their declarations, their readers, and the data included in the package.

- `declaration`: what `declared/*.yaml` may declare of a source and its files.
- `readers/`: read a file of any declared format into rows of strings.
- `embedded/`: two releases of the source `bioconductor`, included in the package.
"""
