"""The figures of a report, drawn by Vega-Altair from the frames of `page.contents`.

`figure` (class, colours, names) → one module per family of figures: `family_means`, `heat_maps`
(tasks, labels), `similarity` (correlations) and `similarity_figures`, `probe_agreement`,
`rank_figures` → `release_figures` (all figures of a release, in order).
"""
