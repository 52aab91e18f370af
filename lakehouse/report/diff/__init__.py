"""Differences between two states of a lake: entities, terms, samples and scores.

- `lake_states`: what can be compared, found by the name of a release, a run or a time
- `score_changes`: the evaluations that were kept, computed anew, added and removed
- `score_causes`: why an evaluation was computed anew
- `lake_diff`: all differences of two states
- `diff_summary`: the differences as short tables
"""
