"""Readers of source files: every format is read into rows of strings.

- `containers`: opens gzip, xz and zip files within a size limit.
- `delimited`: TSV, CSV and space-separated pairs.
- `json_records`, `parquet`, `xlsx`: JSON, JSON lines, Parquet and workbooks.
- `fasta`, `gene_sets`: sequences, GMT gene sets and pickled gene lists.
- `dispatch`: `read_source_file`, which selects the reader and applies the declared options.
"""
