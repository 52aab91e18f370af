"""Scores a probe on an embedding: problems, folds, metrics and statistics.

Modules in the order in which data passes them:

- `problems`: one task over one universe as arrays, its label filter and its digests.
- `folds`: assigns samples to folds, and folds to training and test rows.
- `resplits`: other splits of a problem: fewer training rows, or labels of a later time.
- `evaluate`: runs a probe on problems and gives an `Evaluation` for each.
- `heldout_scores`: metrics of one fold, for the whole task and for each label.
- `metrics`, `ranks`: definitions of the metrics, and the rank statistics they use.
- `predictions`: held-out predictions as a table.
- `word_masking`: removes the words of a label from texts, for the leakage study.
- `statistics`: intervals, means over tasks, paired tests and rankings.
"""
