"""Inputs of encoders: text fields, DNA and protein sequences of each entity.

An input is one text field or one sequence. An encoder's template renders fields into a text, so
the digest that decides whether an entity is encoded again covers the rendered contents.
"""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from genebench.digest import digest_bytes
from genebench.encoders.declaration import Encoder
from genebench.encoders.templates import render_template, template_fields
from genebench.entities.identifiers import Resolver
from genebench.errors import EncoderError, SourceError
from genebench.registry.profiles import InputSource

INPUTS_SCHEMA = pl.Schema(
    {
        "entity_type": pl.String,
        "entity_id": pl.String,
        "modality": pl.String,
        "field": pl.String,
        "part": pl.Int32,
        "content": pl.String,
        "n_chars": pl.Int32,
        "input_digest": pl.String,
        "snapshot_id": pl.String,
    }
)
CATALOGUE_FIELDS = ("symbol", "name")


def catalogue_inputs(entities: pl.DataFrame) -> pl.DataFrame:
    """Return the text fields of the catalogue itself: symbol and full name.

    Args:
        entities: Rows of `silver.entities`.

    Returns:
        `INPUTS_SCHEMA`; empty fields have no row.
    """
    rows = entities.unpivot(
        on=list(CATALOGUE_FIELDS),
        index=["entity_type", "entity_id", "snapshot_id"],
        variable_name="field",
        value_name="content",
    ).with_columns(pl.lit("text").alias("modality"), pl.lit(0).alias("part"))
    return _finish(rows)


class SourceInputs(NamedTuple):
    """Encoder inputs from a source file.

    Attributes:
        rows: `INPUTS_SCHEMA`.
        n_filled: Number of rows of the file with a text or sequence.
        n_lost: Number of these whose identifier does not resolve.
    """

    rows: pl.DataFrame
    n_filled: int
    n_lost: int


def source_inputs(
    raw: pl.DataFrame, declared: InputSource, resolver: Resolver, snapshot_id: str
) -> SourceInputs:
    """Build encoder inputs from a source file.

    Rows whose identifier does not resolve are left out and counted. Duplicate contents of an
    entity are kept once. The parts of an entity are numbered in the order of the declared part
    column, or else of the content.

    Raises:
        SourceError: The file has texts or sequences, but none of its identifiers resolves.
    """
    order = declared.part or declared.column
    filled = raw.drop_nulls([declared.column, order])
    named = resolver.resolve(filled[declared.id], declared.namespace)
    n_lost = filled.height - named.n_resolved
    if filled.height and n_lost == filled.height:
        examples = ", ".join((named.unresolved_examples + named.ambiguous_examples)[:3])
        raise SourceError(
            f"{declared.source}: none of the {n_lost:,} rows with a {declared.column} names a "
            f"{declared.entity} of the catalogue; the first values of {declared.id}, read as "
            f"{declared.namespace}, are {examples or 'empty'}; run `genebench refresh "
            f"{declared.source}`, or correct the id and namespace of this input in "
            "genebench/registry/profiles.yaml"
        )
    rows = filled.select(
        named.entity_ids.alias("entity_id"),
        pl.col(declared.column).alias("content"),
        pl.col(order).alias("order"),
    ).drop_nulls("entity_id")
    rows = rows.sort("entity_id", "order").unique(
        ["entity_id", "content"], keep="first", maintain_order=True
    )
    if declared.modality == "text":
        rows = rows.unique("entity_id", keep="first", maintain_order=True)
    rows = rows.with_columns(
        pl.lit(declared.entity).alias("entity_type"),
        pl.lit(declared.modality).alias("modality"),
        pl.lit(declared.field).alias("field"),
        pl.int_range(pl.len()).over("entity_id").alias("part"),
        pl.lit(snapshot_id).alias("snapshot_id"),
    )
    return SourceInputs(_finish(rows), filled.height, n_lost)


def _finish(rows: pl.DataFrame) -> pl.DataFrame:
    rows = rows.with_columns(pl.col("content").str.strip_chars()).filter(
        pl.col("content").is_not_null() & (pl.col("content") != "")
    )
    digests = [digest_bytes(content.encode()) for content in rows["content"]]
    return rows.with_columns(
        pl.col("content").str.len_chars().alias("n_chars"),
        pl.Series("input_digest", digests, dtype=pl.String),
    ).select([pl.col(name).cast(dtype) for name, dtype in INPUTS_SCHEMA.items()])


def render_contents(
    inputs: pl.DataFrame, encoder: Encoder, entity_type: str, entity_ids: Iterable[str]
) -> pl.DataFrame:
    """Render the contents that an encoder reads for each entity.

    A text encoder's templates are ordered from the most to the fewest fields; the first whose
    fields all occur in the inputs is used. For example, a lake without summaries uses symbol and
    name. The encoder's rule for missing fields then applies to each entity.

    Args:
        inputs: Rows of `silver.inputs` of the entity type and of the encoder's modality.
        encoder: A text, DNA or protein encoder.
        entity_type: The type of the entities.
        entity_ids: The entities to render.

    Returns:
        entity_id, contents (list of strings: one text, or the sequences in order) and
        input_digest; entities without contents are left out.

    Raises:
        EncoderError: Every template has a field that the inputs lack.
    """
    wanted = pl.DataFrame({"entity_id": sorted(set(entity_ids))}, schema={"entity_id": pl.String})
    if encoder.field is not None:
        inputs = inputs.filter(pl.col("field") == encoder.field)
    grouped = (
        inputs.join(wanted, on="entity_id", how="semi")
        .sort("entity_id", "field", "part")
        .group_by("entity_id", maintain_order=True)
        .agg("field", "content")
    )
    rendered: dict[str, list[str]] = {}
    if encoder.reads == "text":
        template = _template(inputs, encoder, entity_type)
        for entity_id, fields, contents in grouped.iter_rows():
            known = dict(zip(fields, contents, strict=True))
            text = render_template(template, known, encoder.missing_rule(entity_type))
            if text is not None:
                rendered[entity_id] = [text]
    else:
        rendered = dict(grouped.select("entity_id", "content").iter_rows())
    return pl.DataFrame(
        {
            "entity_id": list(rendered),
            "contents": list(rendered.values()),
            "input_digest": [
                digest_bytes(*(content.encode() for content in contents))
                for contents in rendered.values()
            ],
        },
        schema={"entity_id": pl.String, "contents": pl.List(pl.String), "input_digest": pl.String},
    )


def _template(inputs: pl.DataFrame, encoder: Encoder, entity_type: str) -> str:
    available = set(inputs["field"].unique())
    templates = encoder.templates(entity_type)
    for template in templates:
        if available.issuperset(template_fields(template)):
            return template
    raise EncoderError(
        f"{encoder.id}: the lake's {entity_type} texts have the fields "
        f"{', '.join(sorted(available)) or 'none'}, but each of the encoder's {len(templates)} "
        f"templates for {entity_type} needs another field; declare a template in "
        f"encoders/declared/{encoder.id}.yaml"
    )
