"""A small sound lake, table by table, that the planted faults are planted in."""

import datetime as dt

import polars as pl
import pytest
from blanks import filled

from lakehouse.tables.catalogue import table
from lakehouse.tables.schema import conform
from lakehouse.tables.vectors import to_vectors

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
HEX = "0123456789abcdef0123456789abcdef"
N = 40
GENES = [f"hgnc:{number}" for number in range(1, N + 1)]


def digests(n: int) -> list[str]:
    return [f"{number:032x}" for number in range(n)]


def build(name: str, /, **columns: object) -> pl.DataFrame:
    """A frame of a table; nullable columns that are not given are null."""
    frame = pl.DataFrame(columns, strict=False)
    missing = [
        column
        for column, declared in table(name).columns.items()
        if declared.is_nullable and column not in columns
    ]
    return conform(table(name), frame.with_columns(pl.lit(None).alias(one) for one in missing))


def make_lake() -> dict[str, pl.DataFrame]:
    """Sound rows of every table that has expectations."""
    return {
        "bronze.snapshots": build(
            "bronze.snapshots",
            snapshot_id=["hpa_23_0_proteinatlas_a1b2c3d4", "hgnc_2024_10_complete_set_00000000"],
            source=["hpa", "hgnc"],
            version=["23.0", "2024-10"],
            file=["proteinatlas", "complete_set"],
            url=["https://example.org/a.tsv", "file:///data/b.txt"],
            sha256=["a1b2c3d4" * 8, "0" * 64],
            size_bytes=[10, 20],
            retrieved_at=[NOW, NOW],
            published_on=["2023-06-19", None],
            etag=[None, '"x"'],
            license=["CC BY-SA 3.0", "CC0"],
            is_complete=[True, False],
            is_composite=[False, False],
            run_id=["r1", "r1"],
        ),
        "bronze.hpa_proteinatlas": build(
            "bronze.hpa_proteinatlas",
            row_number=range(N),
            snapshot_id=["s1"] * N,
            **{"Gene": GENES, "Conc. [pg/L]": ["1.5"] * N},
        ),
        "silver.entities": build(
            "silver.entities",
            entity_type=["gene"] * N,
            entity_id=GENES,
            symbol=[f"G{number}" for number in range(N)],
            name=[f"gene number {number}" for number in range(N)],
            locus_group=[None] * N,
            snapshot_id=["s1"] * N,
        ),
        "silver.xrefs": build(
            "silver.xrefs",
            entity_type=["gene"] * 4,
            namespace=["symbol", "ensembl", "entrez", "symbol"],
            identifier=["G0", "ENSG00000000001", "672", "OLD1"],
            entity_id=["hgnc:1", "hgnc:1", "hgnc:1", "hgnc:2"],
            status=["approved", "approved", "approved", "previous"],
            is_ambiguous=[False] * 4,
            snapshot_id=["s1"] * 4,
        ),
        "silver.inputs": build(
            "silver.inputs",
            entity_type=["gene"] * 5,
            entity_id=["hgnc:1", "hgnc:1", "hgnc:2", "hgnc:2", "hgnc:3"],
            modality=["text", "dna", "protein", "protein", "text"],
            field=["name", "dna", "protein", "protein", "symbol"],
            part=[0, 0, 0, 1, 0],
            content=["breast cancer 1", "ACGTN", "MSKX", "MKU*", "NAN"],
            n_chars=[15, 5, 4, 4, 3],
            input_digest=digests(5),
            snapshot_id=["s1"] * 5,
        ),
        "silver.tasks": build(
            "silver.tasks",
            task_id=["is_tf", "location", "location__nucleus", "length"],
            profile_id=["paper"] * 4,
            family=["regulatory", "localization", "localization", "biological"],
            title=["TF", "Location", "Nucleus", "Length"],
            kind=["binary", "multilabel", "binary", "regression"],
            entity_types=["gene", "gene", "gene", "gene,disease"],
            source=["hpa.proteinatlas"] * 4,
            snapshot_id=["s1"] * 4,
            recipe=["two_lists", "split", "split", "column"],
            parent_task_id=[None, None, "location", None],
            label_names=[["no", "yes"], ["cytosol", "nucleus"], ["no", "nucleus"], ["value"]],
            positive=["yes", None, "nucleus", None],
            n_samples=[N, N, N, 2],
            n_entities=[N, N, N, 2],
            n_labels=[2, 2, 2, 1],
            label_density=[0.5, 0.5, 0.5, 1.0],
            n_smallest_class=[20, 20, 20, None],
            label_digest=digests(4),
            description=["d"] * 4,
            counts=["{}"] * 4,
            superseded_by=[None] * 4,
        ),
        "silver.samples": build(
            "silver.samples",
            family=["regulatory"] * N + ["biological"] * 4 + ["localization"] * N,
            task_id=["is_tf"] * N + ["length"] * 4 + ["location"] * N,
            sample_id=[*GENES, *["hgnc:1|hgnc:2"] * 2, *["hgnc:1|hgnc:2#2"] * 2, *GENES],
            position=[*[0] * N, 0, 1, 0, 1, *[0] * N],
            entity_type=["gene"] * (2 * N + 4),
            entity_id=[*GENES, "hgnc:1", "hgnc:2", "hgnc:1", "hgnc:2", *GENES],
        ),
        "silver.labels": build(
            "silver.labels",
            family=["regulatory"] * N + ["biological"] * 2,
            task_id=["is_tf"] * N + ["length"] * 2,
            sample_id=[*GENES, "hgnc:1|hgnc:2", "hgnc:1|hgnc:2#2"],
            label=[*["no", "yes"] * (N // 2), "value", "value"],
            value=[*[1.0] * N, 0.0, 2.5],
        ),
        "silver.encoders": build(
            "silver.encoders",
            encoder_id=["mpnet"],
            title=["MPNet"],
            modality=["text"],
            is_control=[False],
            encoder_digest=[HEX],
            declaration=["{}"],
            wanted_digest=[HEX],
            n_wanted=[N],
            n_entities=[N],
            dimension=[3],
            is_complete=[True],
            run_id=["r1"],
            embedded_at=[NOW],
        ),
        "silver.embeddings": build(
            "silver.embeddings",
            encoder_id=["mpnet"] * N,
            encoder_digest=[HEX] * N,
            entity_type=["gene"] * N,
            entity_id=GENES,
            vector=to_vectors(1.0 + pl.DataFrame({c: range(N) for c in "abc"}).to_numpy()),
            dimension=[3] * N,
            vector_digest=digests(N),
            input_digest=digests(N),
            n_parts=[1] * N,
            run_id=["r1"] * N,
            embedded_at=[NOW] * N,
        ),
        "gold.universes": build(
            "gold.universes", release_id=["current"] * N, entity_type=["gene"] * N, entity_id=GENES
        ),
        "gold.releases": build(
            "gold.releases",
            release_id=["current"] * 2,
            family=["regulatory"] * 2,
            task_id=["is_tf"] * 2,
            kind=["binary"] * 2,
            encoder_id=["mpnet", "random"],
            modality=["text", "control"],
            probe_id=["linear"] * 2,
            protocol_id=["standard"] * 2,
            label_digest=digests(2),
            feature_digest=digests(2),
            probe_digest=digests(2),
            evaluation_key=digests(2),
            task_group=["regulatory | hpa.proteinatlas | column | binary"] * 2,
        ),
        "gold.evaluations": build(
            "gold.evaluations",
            evaluation_key=digests(2),
            family=["regulatory"] * 2,
            task_id=["is_tf", "location"],
            encoder_id=["mpnet"] * 2,
            probe_id=["linear"] * 2,
            protocol_id=["standard"] * 2,
            status=["ok", "not_applicable"],
            reason=[None, "a fold lacks a class"],
            n_samples=[N, N],
            n_features=[3, 3],
            n_labels=[1, 1],
            seconds=[0.5, 0.0],
            revision=[1, 1],
            packages=["numpy 2"] * 2,
            solver=["lbfgs float32", None],
            gradient_norm=[1e-7, None],
            run_id=["r1"] * 2,
            evaluated_at=[NOW] * 2,
        ),
        "gold.scores": make_scores(),
        "gold.folds": build(
            "gold.folds",
            split_key=[HEX] * N,
            family=["regulatory"] * N,
            task_id=["is_tf"] * N,
            sample_id=GENES,
            position=[0] * N,
            repeat=[0] * N,
            fold=[number % 5 for number in range(N)],
        ),
        "gold.predictions": build(
            "gold.predictions",
            evaluation_key=[digests(1)[0]] * N,
            family=["regulatory"] * N,
            encoder_id=["mpnet"] * N,
            task_id=["is_tf"] * N,
            sample_id=GENES,
            label=["yes"] * N,
            fold=[number % 5 for number in range(N)],
            value=pl.Series([0.5] * N, dtype=pl.Float32),
            truth=pl.Series([1.0] * N, dtype=pl.Float32),
            run_id=["r1"] * N,
        ),
        "gold.intervals": build(
            "gold.intervals",
            evaluation_key=digests(2),
            family=["regulatory"] * 2,
            encoder_id=["mpnet"] * 2,
            task_id=["is_tf"] * 2,
            metric=["roc_auc"] * 2,
            value=[0.8, 0.7],
            low=[0.7, 0.6],
            high=[0.9, 0.8],
            standard_error=[0.05, 0.05],
            level=[0.95] * 2,
            n_units=[100] * 2,
            replicates=pl.Series([[0.8, 0.7], []], dtype=pl.List(pl.Float32)),
            run_id=["r1"] * 2,
        ),
        "gold.comparisons": build(
            "gold.comparisons",
            release_id=["current"] * 2,
            family=["regulatory"] * 2,
            task_id=["is_tf", "is_hla"],
            kind=["binary"] * 2,
            encoder_a=["esm2"] * 2,
            encoder_b=["mpnet"] * 2,
            probe_id=["linear"] * 2,
            protocol_id=["standard"] * 2,
            metric=["roc_auc"] * 2,
            difference=[0.1, 0.0],
            low=[0.05, -0.1],
            high=[0.15, 0.1],
            p_rows=[0.001, 1.0],
            p_folds=[0.01, 1.0],
            p_adjusted=[0.002, 1.0],
            is_established=[True, False],
        ),
        "gold.verdicts": build(
            "gold.verdicts",
            release_id=["current"] * 2,
            family=["regulatory"] * 2,
            task_id=["is_tf", "is_hla"],
            kind=["binary"] * 2,
            probe_id=["linear"] * 2,
            protocol_id=["standard"] * 2,
            metric=["roc_auc"] * 2,
            best_encoder_id=["mpnet", "mpnet"],
            best_value=[0.8, 0.6],
            control_id=["random", "degree"],
            control_value=[0.5, 0.9],
            noise=[0.05, 0.1],
            spread=[0.1, 0.1],
            n_pairs=[1, 1],
            n_established=[1, 0],
            solved_by=[None, "degree"],
            verdict=["encoders differ", "solved by a control"],
        ),
        "gold.leaderboard": make_leaderboard(),
        "gold.foreign_scores": make_foreign_scores(),
        **{
            name: filled(name, [{"run_id": "r1"}])
            for name in ("bronze.readings", "silver.curations", "audit.runs")
        },
        "audit.validations": build(
            "audit.validations",
            table_name=["gold.scores"],
            expectation_id=["key_is_unique"],
            severity=["critical"],
            is_met=[True],
            has_raised=[False],
            observed=[None],
            n_unexpected=[0],
            examples=[["a"]],
            run_id=["r1"],
            validated_at=[NOW],
        ),
        "audit.quarantine": build(
            "audit.quarantine",
            table_name=["gold.scores"],
            run_id=["r1"],
            expectation_id=["key_is_unique"],
            row_number=[0],
            row_json=["{}"],
            quarantined_at=[NOW],
        ),
    }


def make_scores() -> pl.DataFrame:
    from genebench.evaluation.metrics import METRICS

    metrics = [metric_id for metric_id in METRICS for _ in range(2)]
    n = len(metrics)
    return build(
        "gold.scores",
        evaluation_key=[digests(1)[0]] * n,
        family=["regulatory"] * n,
        task_id=["is_tf"] * n,
        kind=["binary"] * n,
        encoder_id=["mpnet"] * n,
        modality=["text"] * n,
        probe_id=["linear"] * n,
        protocol_id=["standard"] * n,
        label=[""] * n,
        metric=metrics,
        fold=[0, 1] * (n // 2),
        value=[1.0] * n,
        n_train=[32] * n,
        n_test=[8] * n,
        run_id=["r1"] * n,
        evaluated_at=[NOW] * n,
    )


def make_leaderboard() -> pl.DataFrame:
    from genebench.evaluation.metrics import METRICS

    metrics = [metric_id for metric_id in METRICS for _ in range(2)]
    n = len(metrics)
    return build(
        "gold.leaderboard",
        release_id=["current"] * n,
        scope=["overall"] * n,
        encoder_id=["mpnet", "random"] * (n // 2),
        modality=["text", "control"] * (n // 2),
        probe_id=["linear"] * n,
        protocol_id=["standard"] * n,
        metric=metrics,
        mean=[0.9, 0.5] * (n // 2),
        sd=[0.1] * n,
        n_tasks=[4] * n,
        n_missing=[0] * n,
        rank=[1, 2] * (n // 2),
    )


def make_foreign_scores() -> pl.DataFrame:
    from genebench.evaluation.metrics import METRICS

    n = len(METRICS)
    return build(
        "gold.foreign_scores",
        release_id=["published"] * n,
        task_name=["TF vs non-TF"] * n,
        label=[""] * n,
        task_id=["tf_vs_non_tf", *[None] * (n - 1)],
        encoder_name=["Bag of Words"] * n,
        encoder_id=["bag_of_words", *[None] * (n - 1)],
        probe_name=[""] * n,
        metric=list(METRICS),
        statistic=["mean"] * n,
        fold=[0] * n,
        value=[0.5] * n,
        n_samples=[2581, *[None] * (n - 1)],
        file_name=["binary_tasks.csv"] * n,
        file_digest=["0" * 32] * n,
        run_id=["r1"] * n,
        imported_at=[NOW] * n,
    )


@pytest.fixture(scope="session")
def sound() -> dict[str, pl.DataFrame]:
    return make_lake()
