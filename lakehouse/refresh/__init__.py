"""Refresh: fetches source files into the lake and records each version as a snapshot.

- `locate`: the address of a source file: package, mirror or its own URL
- `http`: one download, with resume and retries
- `blobs`: content-addressed storage of the files
- `snapshot_rows`: a snapshot and its rows in the bronze tables
- `pins`: the lock file of versions and hashes
- `snapshots`: fetches a file, from address to snapshot
"""
