"""Studies of single tasks: what else than the encoder a score depends on. They write no table.

- `leakage`: how much of a score comes from the words of the label in the texts
- `temporal_holdout`: whether labels of a later day are predicted from those of an earlier day
- `sensitivity`: how a score depends on probe, penalty and number of training rows
"""
