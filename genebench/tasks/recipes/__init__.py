"""Recipes: build the samples and labels of a task from the raw rows of its sources.

- `rows`: selects rows and resolves their identifiers.
- `hierarchy`: roots, levels and descendants of nodes.
- `samples`: builds samples and labels from resolved rows.
- `entity_recipes`, `pair_recipes`: the recipes for single entities and for pairs.
- `recipe`: the catalogue of recipes, and the check of a task's arguments.
"""
