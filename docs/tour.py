"""A tour of a lake's results: `marimo edit docs/tour.py`, or `python docs/tour.py`.

Every cell runs in the test suite, on a lake of drawn scores.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo

    mo.md(
        """
        # A tour of the results

        `genebench benchmark` fills a lake; `open_lake()` reads it (the setting `GENEBENCH_LAKE`,
        `./lake` by default). What can be large is a lazy polars frame; end it with `.collect()`.
        """
    )
    return (mo,)


@app.cell
def _():
    from lakehouse import open_lake

    lake = open_lake()
    lake.releases()
    return (lake,)


@app.cell
def _(mo):
    mo.md(
        """
        ## Who is best, and on what

        Encoders by the mean over the tasks of each family. `modality` is `control` where the result
        is known beforehand: the oracle bounds what can be reached, the random vectors what is luck.
        """
    )


@app.cell
def _(lake):
    release = lake.releases().filter(is_foreign=False)["release_id"][0]
    board = lake.leaderboard(release)
    board
    return board, release


@app.cell
def _(mo):
    mo.md(
        """
        ## The scores behind it

        A row a fold, label and metric, chosen by globs. `value` is in the metric's own unit.
        """
    )


@app.cell
def _(lake, release):
    import polars as pl

    best = (
        lake.scores(metric="roc_auc", label="", release=release)
        .group_by("family", "task_id", "encoder_id")
        .agg(pl.col("value").mean().alias("mean"), pl.col("value").std(ddof=0).alias("sd"))
        .sort("mean", descending=True)
        .head(10)
        .collect()
    )
    best
    return best, pl


@app.cell
def _(mo):
    mo.md("## Two encoders on the same folds")


@app.cell
def _(board, lake, release):
    first, second = board["encoder_id"].unique(maintain_order=True)[:2]
    compared = lake.compare(first, second, release)
    compared.head(10)
    return (compared,)


@app.cell
def _(mo):
    mo.md(
        """
        ## In SQL

        Every table by its name (`gold.scores`) or its noun (`scores`); on the command line
        `genebench query "select …"`. `scores` keeps every score that was ever computed; `releases`
        says which a release names.
        """
    )


@app.cell
def _(lake):
    by_sql = lake.query(
        """
        select e.title, s.metric, avg(s.value) as mean, count(distinct r.task_id) as n_tasks
        from releases r
        join scores s on r.evaluation_key = s.evaluation_key
        join encoders e on r.encoder_id = e.encoder_id
        where r.release_id = 'current' and s.label = '' and s.metric in ('roc_auc', 'r2')
        group by e.title, s.metric
        order by s.metric, mean desc
        """
    )
    by_sql
    return (by_sql,)


@app.cell
def _(mo):
    mo.md(
        """
        ## As it was

        Every table keeps its history; `at` reads all of them as they were at a time.
        """
    )


@app.cell
def _(lake):
    history = lake.history("gold.scores")
    last = history["committed_at"][0]
    then = lake.at(last).table("gold.scores").collect().height
    history
    return history, then


@app.cell
def _(mo):
    mo.md(
        """
        ## In other tools

        The tables are Delta, so pandas, pyarrow and DuckDB read them too:

        ```python
        lake.scores("rna_*").collect().to_pandas()
        scores = lake.scores(metric="roc_auc", label="").collect().to_arrow()   # pyarrow
        duckdb.sql("select encoder_id, avg(value) from scores group by all")
        deltalake.DeltaTable("lake/gold/scores").to_pyarrow_dataset()
        ```
        """
    )


@app.cell
def _(mo):
    mo.md("## A figure of the report, as a Vega-Altair chart")


@app.cell
def _(lake, release):
    from lakehouse.report.page.contents import read_contents
    from lakehouse.report.page.figures.release_figures import draw_figures

    figure = next(draw_figures(read_contents(lake, release)))
    figure.chart
    return (figure,)


if __name__ == "__main__":
    app.run()
