"""Protocols: the rules by which probes are fitted and scored.

- `declaration`: the model of a protocol (folds, scaling, penalty, metrics, intervals), and the
  choice of the positive class.
- `declared/`: the shipped protocols, one YAML file each: `standard` (recommended) and `paper`
  (reproduces the publication, including its errors).
"""
