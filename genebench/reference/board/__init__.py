"""Builds a static leaderboard of many bundles: `genebench board`.

In the order in which data passes them:

- `bundle_checks`: checks a bundle against the tasks of the package; recomputes scores from vectors
- `board_scores`: scores, intervals and pairwise verdicts of all encoders
- `board_page`: the leaderboard as one HTML page
- `build_board`: all steps together
"""
