"""Probes: simple models that are fitted to embeddings, and whose predictions are scored.

- `declaration`: the model of a probe.
- `problem`: the arrays between `evaluate` and the probes: `Problem`
  in, `FoldOutput` and `HeldOut` out.
- `linear`: the engine for logistic and linear regression; fits all labels and folds together.
- `scikit_learn`: any scikit-learn estimator by name; fits one label and fold at a time.
- `incidence`: controls for pair tasks that use which entities a pair has, and no vectors.
- `declared/`: the shipped probes, one YAML file each.
"""
