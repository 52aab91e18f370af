"""Statistics of scores: bootstrap intervals, means over tasks, paired tests, rankings.

Modules in the order in which data passes them:

- `weighted_ranks`: ROC AUC and average precision of weighted rows.
- `resampling`: bootstrap weights, and all metrics under many weightings at once.
- `bootstrap`: bootstrap replicates of a score, and its confidence interval.
- `means`: means over folds, tasks and families; the leaderboard.
- `paired_tests`: tests of the difference of two encoders, and Holm's correction.
- `ranking`: mean ranks over tasks, Friedman's test and the critical difference.
"""
