"""The loaders, by modality.

- `text`: sentence transformers.
- `bag_of_words`: bag of words and TF-IDF.
- `protein`: protein language models.
- `dna`: DNA language models.
- `expression`: embedding tables of expression models.
- `precomputed`: files of vectors.
- `study_bias`: row counts and text lengths.
- `controls`: random, shuffled and oracle.
- `derived`: composite, concatenation and PCA of other encoders.
"""
