"""Loads and checks all declarations: profiles, sources, tasks, encoders, probes and protocols.

- `yaml_reader`: reads YAML strictly, validates it, and describes each mistake.
- `profiles`: what `profiles.yaml` may declare.
- `registry`: all declarations of one profile, and their selection by name or pattern.
- `references`: finds references that lead nowhere.
- `loading`: reads the files into a `Registry`, or reports all mistakes at once.
- `published_names`: maps names in published results to tasks, encoders, probes and metrics.
"""
