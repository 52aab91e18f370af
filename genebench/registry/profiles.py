"""What a profile may say: its catalogues, what encoders may read, and the encoders that run."""

from pydantic import BaseModel, ConfigDict, Field


class InputSource(BaseModel):
    """Where a text field or sequence of an entity type comes from.

    Args:
        entity: The entity type.
        modality: text, dna or protein.
        field: The text field (`summary`) or the kind of sequence (`cdna`).
        source: The source file.
        id: Its column that identifies the entity.
        namespace: What that column holds.
        column: Its column with the text or sequence.
        part: Its column that names the part, such as a protein id; rows of one entity are
            ordered by it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entity: str = "gene"
    modality: str
    field: str
    source: str
    id: str
    namespace: str
    column: str
    part: str | None = None


class Profile(BaseModel):
    """A catalogue of entities, what may be read of them, and the encoders that run by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    description: str = ""
    catalogues: dict[str, str] = Field(description="entity type to its catalogue source file")
    withdrawn: str | None = Field(
        default=None, description="source file with the withdrawn entries of the gene catalogue"
    )
    inputs: tuple[InputSource, ...] = ()
    optional: tuple[str, ...] = Field(
        default=(), description="source files that it does without where they cannot be had"
    )
    encoders: tuple[str, ...] = Field(min_length=1)
    sensitivity: tuple[str, ...] = Field(
        default=(), description="tasks whose sensitivity is studied where none is named"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="source, or source file, to the version wanted, where not the newest",
    )
