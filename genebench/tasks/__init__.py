"""Prediction tasks: their declarations, and the recipes that build samples and labels.

- `declaration`: what a task entry may declare, and the samples and labels of a built task.
- `entries`: reads task entries from YAML, with defaults and `foreach`.
- `user_tasks`: reads tasks from a user's folders and files.
- `recipes/`: builds samples and labels from raw rows.
- `description`: describes built tasks as rows of `silver.tasks`.
"""
