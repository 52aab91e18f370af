"""Readers of files of precomputed vectors; each returns names and an (n, d) matrix.

- `vector_format`: arguments of the loader `precomputed`, and the format of a file by its name.
- `vector_reader`: reads a file in any of the formats.
- `vector_tables`: CSV, TSV, parquet, and data set folders of Hugging Face.
- `vector_arrays`: npz and h5ad.
- `word_vectors`: word2vec (text and binary), JSON and pickle.
"""
