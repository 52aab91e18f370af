"""The catalogue of tables: the declaration of every table of the lake.

The Delta schemas, the base expectations and the documented table of tables are generated from it.
Column types are `str i8 i32 i64 f32 f64 bool ts` and `list<...>`; `ts` is UTC, `?` is nullable.
"""

import difflib
import re

from genebench.errors import LakeError
from lakehouse.tables.record_tables import RECORD_TABLES
from lakehouse.tables.schema import Table, declare_table

MODALITIES = ("text", "expression", "dna", "protein", "classical", "control")
KINDS = ("binary", "multiclass", "multilabel", "regression")
STATUSES = ("ok", "failed", "not_applicable")
VERDICTS = (
    "solved by a control",
    "at chance",
    "encoders differ",
    "encoders tie",
    "one encoder",
    "not compared",
    "no encoder",
)


_DECLARED = (
    declare_table(
        "bronze.snapshots",
        "one retrieval of one file of one source version",
        "snapshot_id retrieved_at",
        "",
        "append-only",
        "Fetched source files: address, version, time and SHA-256 hash.",
        "snapshot_id str, source str, version str, file str, url str, sha256 str, size_bytes i64,"
        "retrieved_at ts, published_on str?, etag str?, license str, is_complete bool,"
        "is_composite bool, run_id str",
    ),
    declare_table(
        "silver.entities",
        "one entity",
        "entity_type entity_id",
        "entity_type",
        "replace partition",
        "Genes, diseases and other entities that encoders embed, with identifier (CURIE) and name.",
        "entity_type str, entity_id str, symbol str, name str, locus_group str?, snapshot_id str",
    ),
    declare_table(
        "silver.xrefs",
        "one external identifier of an entity",
        "entity_type namespace identifier entity_id",
        "entity_type",
        "replace partition",
        "Cross-references: symbols and external identifiers, each with the entity it resolves to.",
        "entity_type str, namespace str, identifier str, entity_id str, status str,"
        "is_ambiguous bool, snapshot_id str",
        {"status": ("approved", "previous", "alias")},
    ),
    declare_table(
        "silver.inputs",
        "one text or sequence of an entity",
        "entity_type entity_id modality field part",
        "modality",
        "replace partition",
        "Inputs of encoders: text fields, DNA and protein sequences of entities.",
        "entity_type str, entity_id str, modality str, field str, part i32, content str,"
        "n_chars i32, input_digest str, snapshot_id str",
        {"modality": ("text", "dna", "protein")},
    ),
    declare_table(
        "silver.tasks",
        "one task",
        "task_id",
        "",
        "replace",
        "Prediction tasks with their source, recipe, size and class counts.",
        "task_id str, profile_id str, family str, title str, kind str, entity_types str,"
        "source str, snapshot_id str, recipe str, parent_task_id str?, label_names list<str>,"
        "positive str?, n_samples i64, n_entities i64, n_labels i32, label_density f64,"
        "n_smallest_class i64?, counts str, label_digest str, description str, superseded_by str?",
        {"kind": KINDS},
    ),
    declare_table(
        "silver.samples",
        "one entity of one sample",
        "task_id sample_id position",
        "family",
        "replace partition",
        "Samples of every task: one entity each, or an ordered pair of entities.",
        "family str, task_id str, sample_id str, position i8, entity_type str, entity_id str",
    ),
    declare_table(
        "silver.labels",
        "one non-zero label of one sample",
        "task_id sample_id label",
        "family",
        "replace partition",
        "Labels of every task, in long format; status: when a sample of a temporal task had it.",
        "family str, task_id str, sample_id str, label str, value f64, status str?",
        {"status": ("known", "gained", "unconfirmed")},
    ),
    declare_table(
        "silver.encoders",
        "one encoder with vectors",
        "encoder_id",
        "encoder_id",
        "replace partition",
        "Encoders with their declaration, and whether all of their vectors are computed.",
        "encoder_id str, title str, modality str, is_control bool, encoder_digest str,"
        "declaration str, wanted_digest str, n_wanted i64, n_entities i64, dimension i32,"
        "is_complete bool, run_id str, embedded_at ts, weights str?,"
        "weights_revision str?",
        {"modality": MODALITIES},
    ),
    declare_table(
        "silver.embeddings",
        "one vector",
        "encoder_id entity_type entity_id",
        "encoder_id",
        "replace partition",
        "Embeddings: the vector of each entity by each encoder.",
        "encoder_id str, encoder_digest str, entity_type str, entity_id str, vector list<f32>,"
        "dimension i32, vector_digest str, input_digest str, n_parts i32, run_id str,"
        "embedded_at ts",
    ),
    declare_table(
        "gold.universes",
        "one entity of a release's universe",
        "release_id entity_type entity_id",
        "release_id",
        "replace partition",
        "Universes: the entities on which the encoders of a release are compared.",
        "release_id str, entity_type str, entity_id str",
    ),
    declare_table(
        "gold.releases",
        "one task, encoder and probe, with the evaluation key",
        "release_id task_id encoder_id probe_id protocol_id",
        "release_id",
        "replace partition",
        "Releases: named sets of evaluations, one for each task, encoder and probe.",
        "release_id str, family str, task_id str, kind str, encoder_id str, modality str,"
        "probe_id str, protocol_id str, label_digest str, feature_digest str, probe_digest str,"
        "evaluation_key str, task_group str?, run_id str?",
        {"kind": KINDS, "modality": MODALITIES},
    ),
    declare_table(
        "gold.evaluations",
        "one attempted evaluation",
        "evaluation_key run_id",
        "family encoder_id",
        "append-only",
        "Attempted evaluations with their status and, where they failed, the reason.",
        "evaluation_key str, family str, task_id str, encoder_id str, probe_id str,"
        "protocol_id str, status str, reason str?, n_samples i64, n_features i32, n_labels i32,"
        "solver str?, gradient_norm f64?, seconds f64, revision i32, packages str, run_id str,"
        "evaluated_at ts, batch_id str?",
        {"status": STATUSES},
    ),
    declare_table(
        "gold.scores",
        "one value of one metric",
        "evaluation_key label fold metric",
        "family encoder_id",
        "append-only",
        "Scores by task, encoder, probe, label, metric and fold.",
        "evaluation_key str, family str, task_id str, kind str, encoder_id str, modality str,"
        "probe_id str, protocol_id str, label str, metric str, fold i8, value f64, n_train i32,"
        "n_test i32, run_id str, evaluated_at ts, batch_id str?",
        {"kind": KINDS, "modality": MODALITIES},
    ),
    declare_table(
        "gold.folds",
        "one entity of one sample in a split",
        "split_key task_id sample_id position repeat",
        "family",
        "append-only",
        "Cross-validation splits: the fold in which each sample is held out.",
        "split_key str, family str, task_id str, sample_id str, position i8, repeat i8, fold i8",
    ),
    declare_table(
        "gold.predictions",
        "one held-out prediction",
        "evaluation_key sample_id label fold",
        "family encoder_id",
        "append-only",
        "Held-out predictions of selected evaluations, beside the true values.",
        "evaluation_key str, family str, encoder_id str, task_id str, sample_id str, label str,"
        "fold i8, value f32, truth f32, run_id str, batch_id str?",
    ),
    declare_table(
        "gold.intervals",
        "one metric over all folds of an evaluation",
        "evaluation_key metric",
        "family encoder_id",
        "append-only",
        "Bootstrap confidence intervals of the scores, with their bootstrap replicates.",
        "evaluation_key str, family str, encoder_id str, task_id str, metric str, value f64,"
        "low f64, high f64, standard_error f64, level f64, n_units i64, replicates list<f32>,"
        "run_id str, batch_id str?",
    ),
    declare_table(
        "gold.comparisons",
        "one pair of encoders on one task",
        "release_id task_id encoder_a encoder_b probe_id protocol_id metric",
        "release_id",
        "replace partition",
        "Paired comparisons of encoders: difference, confidence interval and p-values.",
        "release_id str, family str, task_id str, kind str, encoder_a str, encoder_b str,"
        "probe_id str, protocol_id str, metric str, difference f64, low f64, high f64,"
        "p_rows f64, p_folds f64, p_adjusted f64, is_established bool",
        {"kind": KINDS},
    ),
    declare_table(
        "gold.verdicts",
        "one task of a release",
        "release_id task_id probe_id protocol_id metric",
        "release_id",
        "replace partition",
        "Verdicts on tasks: best encoder, best control, noise and established differences.",
        "release_id str, family str, task_id str, kind str, probe_id str, protocol_id str,"
        "metric str, best_encoder_id str?, best_value f64?, control_id str?, control_value f64?,"
        "noise f64?, spread f64?, n_pairs i64, n_established i64, solved_by str?, verdict str",
        {"kind": KINDS, "verdict": VERDICTS},
    ),
    declare_table(
        "gold.leaderboard",
        "one encoder in one scope by one metric",
        "release_id scope encoder_id probe_id protocol_id metric",
        "release_id",
        "replace partition",
        "Leaderboards: mean, standard deviation and rank of each encoder of a release.",
        "release_id str, scope str, encoder_id str, modality str, probe_id str, protocol_id str,"
        "metric str, mean f64, sd f64, n_tasks i32, n_missing i32, rank i32",
        {"modality": MODALITIES},
    ),
    declare_table(
        "gold.foreign_scores",
        "one imported value of one metric",
        "release_id task_name label encoder_name probe_name metric statistic fold",
        "release_id",
        "replace partition",
        "Imported results, by the names in their files; they are not part of leaderboards.",
        "release_id str, task_name str, label str, task_id str?, encoder_name str,"
        "encoder_id str?, probe_name str, metric str, statistic str, fold i8, value f64,"
        "n_samples i64?,"
        "file_name str, file_digest str, run_id str, imported_at ts",
        {"statistic": ("fold", "mean", "sd")},
    ),
)

_LAYERS = ("bronze", "silver", "gold", "audit")
TABLES: dict[str, Table] = {
    declared.name: declared
    for declared in sorted(
        (*_DECLARED, *RECORD_TABLES), key=lambda declared: _LAYERS.index(declared.layer)
    )
}

_BRONZE = re.compile(r"bronze\.[a-z][a-z0-9]*_[a-z0-9_]+")


def bronze_table(source_id: str, file_id: str) -> Table:
    """The bronze table of one file of a source: the file's columns, all strings.

    >>> bronze_table("hpa", "proteinatlas").name
    'bronze.hpa_proteinatlas'
    """
    return _bronze(f"bronze.{source_id}_{file_id}")


def _bronze(name: str) -> Table:
    return declare_table(
        name,
        "one row of the file",
        "snapshot_id row_number",
        "snapshot_id",
        "replace partition",
        "Rows of one source file: its columns, unchanged, all strings.",
        "row_number i64, snapshot_id str",
        allows_extra_columns=True,
    )


def table(name: str) -> Table:
    """The declaration of a table by its name, `layer.noun`.

    Raises:
        LakeError: No table has this name; suggests the nearest.
    """
    if name in TABLES:
        return TABLES[name]
    if _BRONZE.fullmatch(name) and not difflib.get_close_matches(name, TABLES, cutoff=0.9):
        return _bronze(name)
    near = difflib.get_close_matches(name, TABLES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"tables: {', '.join(TABLES)}"
    raise LakeError(f"no table {name!r}; {hint}")


def render_tables() -> str:
    """Render the table of tables of the documentation, in Markdown."""
    lines = ["| table | one row is | key | partition | mode |", "|---|---|---|---|---|"]
    for declared in (
        TABLES["bronze.snapshots"],
        _bronze("bronze.{source}_{file}"),
        *(declared for declared in TABLES.values() if declared.name != "bronze.snapshots"),
    ):
        lines.append(
            f"| `{declared.name}` | {declared.row} | {', '.join(declared.key)} "
            f"| {', '.join(declared.partition) or '–'} | {declared.mode} |"
        )
    return "\n".join(lines) + "\n"
