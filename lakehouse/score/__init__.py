"""Evaluations: which ones a release needs, running those that are pending, and storing them.

In the order in which data passes them:

- `holdout_groups`: groups of entities for grouped cross-validation
- `universes`: the entities that encoders are compared on, and the tasks restricted to them
- `plan_inputs`: universes and prepared tasks of all encoders, cached per process
- `plan`: evaluation keys of a release, and which of them are pending
- `encoder_evaluation`: evaluates the pending items of one encoder
- `result_rows`: evaluations as rows of the gold tables
- `evidence`: reads the evaluations on record, and the rows that belong to them
- `tidy`: removes what interrupted runs left, and files that nothing needs
- `scores`: reads releases and their scores
"""
