"""Read access for people: one class with a method for each frequent question, and SQL.

- `lake`: `Lake`, which `lakehouse.open_lake()` returns
- `sql`: SQL queries over all tables
"""
