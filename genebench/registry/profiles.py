"""Declaration of a profile: its catalogues, encoder inputs, default encoders and versions."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

PROFILES = Path("registry", "profiles.yaml")


class InputSource(BaseModel):
    """Source file and columns of one encoder input: a text field or a kind of sequence.

    Args:
        entity: The entity type.
        modality: text, dna or protein.
        field: The text field (`summary`) or the kind of sequence (`cdna`).
        source: The source file.
        id: Column that identifies the entity.
        namespace: Namespace of the identifiers in that column.
        column: Column with the text or sequence.
        part: Column that names the part, such as a protein id; the parts of one entity are
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
    """A set of entity catalogues, encoder inputs, default encoders and source versions."""

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
        default=(), description="source files that may be unavailable without an error"
    )
    encoders: tuple[str, ...] = Field(min_length=1)
    sensitivity: tuple[str, ...] = Field(
        default=(), description="default tasks of the sensitivity study"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="source, or source file, to its version; by default the newest",
    )
