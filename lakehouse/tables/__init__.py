"""The tables of the lake: their declarations, and reading and writing them in Delta.

- `schema`: columns, tables, and the check of a frame against a declaration
- `catalogue`: the declaration of every table
- `record_tables`: the tables that record what runs did
- `manifest`: which versions of the silver tables are current, from the record of finished runs
- `storage`: the location of a lake, a folder or S3
- `commits`: metadata of a commit
- `delta_schema`: the Delta schema and Parquet settings of a declared table
- `delta_table`: opening a Delta table, retries after commit conflicts
- `delta`: reading and writing the tables
- `conditional_writes`: whether an object store has them
- `table_files`: the files of a table that its log names, and those that are stored
- `lake_lock`: one writer at a time, in a folder or an object store
- `maintenance`: compaction, vacuum, and the deletion of rows that no evaluation names
- `time_travel`: reading tables and snapshots, now or at an earlier time
- `vectors`: vectors between numpy matrices and list columns
- `vector_pages`: fast reading of vectors from Parquet pages
- `names`: globs and suggestions for mistyped names
"""
