"""Compares new vectors with a reference release: scores of encoders that ship with the package.

No lake and no Prefect server is needed. In the order in which data passes them:

- `packaged_tasks`: prepares the tasks of the included data in memory
- `score_levels`: stores held-out predictions compactly, as levels of ranks
- `bundle`: the scores and predictions of encoders as one table, to be shared as a parquet file
- `vectors_evaluation`: scores one matrix of vectors on all tasks
- `stored_scores`: scores stored predictions on some of their samples
- `rivals`: scores the encoders of a bundle on the held-out rows that the vectors cover
- `local_embedding`: embeds the genes with an encoder that runs on this machine
- `refitted_rivals`: fits the rivals again, on the genes that the vectors cover
- `verdicts`: paired differences and verdicts by task, by family and overall
- `task_weights`: weights of tasks in the mean of a family
- `score_table`: all scores as one table, with intervals
- `comparison_tables`: the scores as tables, and the result in one sentence
- `comparison_page`: the result as an HTML page
- `comparison`: the result of `genebench.evaluate`
- `evaluate_vectors`: all steps together
- `result_cache`: keeps results, so that the same command again reads them
- `board`: a static leaderboard of many bundles
- `python_input`: numpy, torch, polars, pandas and AnnData objects as names and a matrix
"""
