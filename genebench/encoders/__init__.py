"""Encoders: declarations in YAML, and the loaders that compute vectors from them.

In the order in which data passes them:

- `declared/`: one YAML file per encoder of genebench.
- `templates`: the text of an entity from its fields.
- `loader_catalogue`: the loaders and what each of them reads.
- `declaration`: the model of a declaration, and its validation.
- `published_files`: conversion of model files of the published package.
- `encoder_reader`: reads the encoders of a YAML file.
- `loader`: the interface of all loaders, and their input and output.
- `encoder_digest`: the digest of everything that decides the vectors.
- `weights/`: finds, verifies and reads weights.
- `inference/`: devices, batches and windows.
- `identifier_mapping`: maps the identifiers in a file to entities.
- `vector_files/`: reads files of precomputed vectors.
- `loaders/`: the loaders, by modality.
"""
