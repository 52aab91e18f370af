"""Embeddings: which vectors are missing, how they are stored, and how they are read back.

In the order in which data passes them:

- `pending`: which entities an encoder still has to encode
- `vector_rows`: input of a loader, and its vectors as rows of `silver.embeddings`
- `encoder_records`: rows of `silver.encoders`, fixed probes, weight files and coverage
- `stored_vectors`: the stored vectors of an encoder as a matrix
"""
