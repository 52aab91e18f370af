"""The report page: one self-contained HTML file with tables, charts and figures.

`contents` (frames of a release) with `significance_results` (comparisons, verdicts, rankings) →
`figures/` (Vega-Altair) and `charts` (templates that the browser fills) → `values`, `page_entries`
(encoders, tasks), `significance_payload`, `provenance` and `payload` (JSON) → `write` (the HTML
file). `page.html`, `page.css`, `widgets.js`, `significance.js` and `page.js` are the template.
"""
