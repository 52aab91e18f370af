"""Reports: leaderboard, significance tests, releases, published results and the report page.

`leaderboard` (means and ranks) and `intervals` → `leaderboard_table` (printed, Markdown) →
`significance` (paired tests, verdicts, ranks) → `encoder_pairs` (two encoders) → `releases`
(freeze, diff) → `import_formats` and `imports` (published results) → `published_comparison` →
`exports` (CSV, parquet) → `task_cards` → `page/` (the HTML report).
"""
