"""Tables that record what runs did: finished runs, curations, parsed files, checks of frames.

The state of a lake is in these tables and not in the metadata of Delta commits, so it does not
change when another tool commits to a table or restores it.
"""

from lakehouse.tables.schema import Table, declare_table

SEVERITIES = ("critical", "warning")

RECORD_TABLES: tuple[Table, ...] = (
    declare_table(
        "bronze.readings",
        "one parse of one snapshot",
        "snapshot_id read_at",
        "",
        "append-only",
        "Parses of source files: the digest of the reader's declaration, and the lake's profile.",
        "snapshot_id str, source str, file str, reading_digest str, profile_id str, run_id str,"
        "read_at ts",
    ),
    declare_table(
        "silver.curations",
        "one curation",
        "run_id curated_at",
        "",
        "append-only",
        "Curations: what decided the silver tables, the user tasks, and the tasks that failed.",
        "run_id str, curation_key str, profile_id str, user_tasks list<str>, failed_tasks str,"
        "snapshots str, curated_at ts",
    ),
    declare_table(
        "audit.runs",
        "one finished run that wrote tables",
        "run_id verb finished_at",
        "verb",
        "append-only",
        "Finished runs with the version of each table that they wrote; the last row of a run.",
        "run_id str, verb str, code str, profile_id str, table_versions str, finished_at ts",
    ),
    declare_table(
        "audit.validations",
        "one check of one expectation",
        "run_id table_name expectation_id validated_at",
        "table_name",
        "append-only",
        "Results of the expectations that were checked before each write.",
        "table_name str, expectation_id str, severity str, is_met bool, has_raised bool,"
        "observed str?, n_unexpected i64?, examples list<str>, run_id str, validated_at ts,"
        "is_skipped bool?",
        {"severity": SEVERITIES},
    ),
    declare_table(
        "audit.quarantine",
        "one row of a rejected frame",
        "run_id table_name expectation_id quarantined_at row_number",
        "table_name",
        "append-only",
        "Rows that failed a critical expectation and were not written, as JSON.",
        "table_name str, run_id str, expectation_id str, row_number i64, row_json str,"
        "quarantined_at ts",
    ),
)
