"""Genes and diseases: their catalogue, the resolution of their identifiers, and encoder inputs.

- `identifiers`: resolves identifiers of a namespace to entities of the catalogue.
- `entity_catalogue`: builds entities and cross-references from a source's catalogue.
- `unresolved`: entities that samples name and the catalogue lacks.
- `inputs`: texts and sequences that encoders read.
"""
