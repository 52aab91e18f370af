"""Converts model files of the published package (`gene-benchmark`) to encoders of genebench.

A published file has the keys `descriptor` (the text), `encoder` (the vectors), optionally
`base_model` (the estimator) and `post_processing` (how the vectors of a pair are joined). The
description of the encoder lists every difference from the published package.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from genebench.encoders.declaration import (
    Encoder,
    is_hub_id,
    resolve_relative_paths,
    suggest_nearest,
)
from genebench.errors import RegistryError

FULL = "Gene symbol {symbol} full name {name} with the summary {summary}"
SHORT = "Gene symbol {symbol} full name {name}"
KEYS = ("descriptor", "encoder", "base_model", "post_processing", "model_name", "revision")
DESCRIPTORS = ("NCBIDescriptor", "CSVDescriptions", "BasePairDescriptor", "GeneDiseaseDescriptions")
ENCODERS = (
    "SentenceTransformerEncoder",
    "PreComputedEncoder",
    "BERTEncoder",
    "get_gene_disease_multi_encoder",
)
ESTIMATORS = {
    "LogisticRegression": "LogisticRegression",
    "LinearRegression": "LinearRegression",
    "RandomForestClassifier": "RandomForestClassifier",
    "RandomForestRegressor": "RandomForestRegressor",
    "Multilayer_Perceptron_classifier": "MLPClassifier",
    "Multilayer_Perceptron_regressor": "MLPRegressor",
}
# The probe for each estimator; linear estimators use the probe of the protocol.
PROBES = {
    "RandomForestClassifier": "random_forest",
    "RandomForestRegressor": "random_forest",
    "MLPClassifier": "mlp",
    "MLPRegressor": "mlp",
}
DNABERT2 = "zhihan1996/DNABERT-2-117M"


@dataclass(frozen=True)
class PublishedEncoder:
    """The content of a published model file.

    Args:
        encoders: The encoder of the file first, then the encoders whose vectors it reads.
        pair_join: How the file joins the vectors of a pair.
        estimator: Name of the estimator in scikit-learn, None if the file names none.
        estimator_arguments: Arguments of the estimator, as in the file.
        notes: Differences from the published package.
    """

    encoders: tuple[Encoder, ...]
    pair_join: Literal["mean", "concat"] = "mean"
    estimator: str | None = None
    estimator_arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_published_file(entry: Any) -> bool:
    """Whether a YAML mapping is a published model file, not a declaration of genebench."""
    return isinstance(entry, dict) and isinstance(entry.get("encoder"), dict)


def convert_published_file(entry: dict[str, Any], path: Path) -> PublishedEncoder:
    """Convert a published model file.

    Args:
        entry: The parsed YAML.
        path: Path of the file. Its stem is the default name of the encoder, and its folder the
            start of relative paths.

    Raises:
        RegistryError: A class or key is unknown, or no commit of a Hugging Face model is known.
    """
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        raise RegistryError(
            [f"{path}: unknown key {unknown[0]!r}{suggest_nearest(unknown[0], KEYS)}"]
        )
    converter = _Converter(entry, path)
    join = entry.get("post_processing", "average")
    if join not in {"average", "concat"}:
        raise RegistryError([f"{path}: post_processing: {join!r} must be 'average' or 'concat'"])
    estimator: str | None = None
    arguments: dict[str, Any] = {}
    if entry.get("base_model"):
        name, arguments = converter.class_of("base_model", tuple(ESTIMATORS))
        estimator = ESTIMATORS[name]
        if arguments:
            converter.notes.append(
                "the arguments of the estimator are those of the genebench probe"
            )
    first, *others = converter.encoders()
    if "post_processing" in entry:
        converter.notes.append(
            f"the protocol decides how the vectors of a pair are joined, not this file ({join})"
        )
    update = {"probe": PROBES.get(estimator or ""), "description": "; ".join(converter.notes)}
    return PublishedEncoder(
        (first.model_copy(update=update), *others),
        "concat" if join == "concat" else "mean",
        estimator,
        arguments,
        tuple(converter.notes),
    )


class _Converter:
    """Converts one file and collects notes about differences."""

    def __init__(self, entry: dict[str, Any], path: Path) -> None:
        self.entry = entry
        self.path = path
        self.notes: list[str] = []
        label = str(entry.get("model_name") or path.stem)
        self.title = label
        self.id = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "published"

    def class_of(self, key: str, known: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
        section = self.entry[key]
        name = section.get("class_name") if isinstance(section, dict) else None
        if name not in known:
            near = suggest_nearest(str(name), known)
            raise RegistryError([f"{self.path}: {key}: unknown class_name {name!r}{near}"])
        return name, dict(section.get("class_args") or {})

    def encoders(self) -> tuple[Encoder, ...]:
        name, arguments = self.class_of("encoder", ENCODERS)
        if name == "get_gene_disease_multi_encoder":
            return self._gene_and_disease(arguments)
        model = arguments.get("encoder_model_name")
        if not isinstance(model, str):
            raise self._error("encoder: class_args.encoder_model_name is missing")
        if name == "PreComputedEncoder":
            return (self._precomputed(self.id, self.title, model, arguments),)
        if name == "BERTEncoder":
            return (self._dna_model(model, arguments),)
        texts = self._texts()
        return (self._make({**self._text_model(self.id, model), **texts}),)

    def _error(self, reason: str) -> RegistryError:
        return RegistryError([f"{self.path}: {reason}"])

    def _make(self, values: dict[str, Any]) -> Encoder:
        try:
            return Encoder.model_validate(resolve_relative_paths(values, self.path.parent))
        except ValueError as error:
            raise RegistryError([f"{self.path}: {error}"]) from error

    def _text_model(self, encoder_id: str, model: str) -> dict[str, Any]:
        hub = model if is_hub_id(model) or "/" in model else f"sentence-transformers/{model}"
        return {
            "id": encoder_id,
            "title": self.title,
            "modality": "text",
            "loader": "sentence_transformer",
            "model": hub,
            "revision": self._revision(hub),
        }

    def _revision(self, model: str) -> str | None:
        if not is_hub_id(model):
            return None
        revision = self.entry.get("revision") or known_revisions().get(model)
        if revision is None:
            raise self._error(
                f"no commit of the Hugging Face model {model!r} is known; add "
                "`revision: <its 40-digit commit>` to the file"
            )
        return str(revision)

    def _texts(self) -> dict[str, Any]:
        if not self.entry.get("descriptor"):
            self.notes.append("the file has no descriptor, so the text is the symbol")
            return {"template": "{symbol}"}
        name, arguments = self.class_of("descriptor", DESCRIPTORS)
        missing = "partial" if arguments.get("allow_partial", name == "CSVDescriptions") else "skip"
        gene = FULL if arguments.get("add_summary", True) else SHORT
        if name == "NCBIDescriptor":
            return {"template": gene, "missing": missing}
        source = arguments.get("csv_file_path", "the CSV file")
        self.notes.append(f"descriptions come from the inputs of the lake, not from {source}")
        disease = "{description}"
        if name == "CSVDescriptions":
            return {"template": {"disease": disease}, "entities": ["disease"], "missing": "skip"}
        if name == "GeneDiseaseDescriptions":
            gene = "{symbol}" if arguments.get("naive_descriptor") else FULL
            return {
                "template": {"gene": gene, "disease": disease},
                "entities": ["gene", "disease"],
                "missing": {"gene": missing, "disease": "skip"},
            }
        raise self._error(
            f"descriptor {name!r} returns sequences, but a SentenceTransformerEncoder reads texts; "
            "use a BERTEncoder, or another descriptor"
        )

    def _table(self, arguments: dict[str, Any]) -> dict[str, str]:
        """Return `key` and `format` of the `precomputed` loader for a table of vectors."""
        options = dict(arguments.get("read_csv_params") or {})
        key, separator = options.pop("index_col", "symbol"), options.pop("sep", ",")
        if options or not isinstance(key, str) or separator not in {",", "\t"}:
            raise self._error(
                "encoder: read_csv_params supports only `index_col` and a `sep` of comma or tab; "
                "declare the table as a genebench encoder (`loader: precomputed`) instead"
            )
        return {"key": key, "format": "csv" if separator == "," else "tsv"}

    def _precomputed(
        self, encoder_id: str, title: str, model: str, arguments: dict[str, Any]
    ) -> Encoder:
        path = Path(model).expanduser()
        self.notes.append("symbols without a vector get none, and no random vector replaces it")
        return self._make(
            {
                "id": encoder_id,
                "title": title,
                "modality": "expression",
                "loader": "precomputed",
                "model": str(path if path.is_absolute() else (self.path.parent / path).resolve()),
                "with": {"namespace": "symbol", **self._table(arguments)},
            }
        )

    def _dna_model(self, model: str, arguments: dict[str, Any]) -> Encoder:
        self._require_dna_descriptor()
        if (tokenizer := arguments.get("tokenizer_name") or model) != model:
            raise self._error(
                f"encoder: tokenizer_name {tokenizer!r} is not the model {model!r}; genebench "
                "always uses the tokenizer of the model, so remove tokenizer_name"
            )
        if arguments.get("trust_remote_code"):
            self.notes.append(
                "remote code is never run; genebench has its own implementation of the network"
            )
        if arguments.get("maximal_context_size"):
            self.notes.append(
                "long genes are split into windows of tokens, weighted by length, not truncated by "
                "characters"
            )
        is_dnabert2 = model == DNABERT2
        return self._make(
            {
                "id": self.id,
                "title": self.title,
                "modality": "dna",
                "loader": "dna_transformer",
                "model": model,
                "revision": self._revision(model),
                "field": "genomic",
                "with": {
                    "architecture": "mosaic_bert" if is_dnabert2 else "known",
                    "window": 2046 if is_dnabert2 else 510,
                    "counts_special": True,
                },
            }
        )

    def _require_dna_descriptor(self) -> None:
        name = self.class_of("descriptor", DESCRIPTORS)[0] if self.entry.get("descriptor") else None
        if name != "BasePairDescriptor":
            found = f"descriptor {name!r} returns texts" if name else "the file has no descriptor"
            raise self._error(
                f"{found}, but a BERTEncoder reads DNA sequences; use a BasePairDescriptor, or a "
                "SentenceTransformerEncoder for texts"
            )

    def _gene_and_disease(self, arguments: dict[str, Any]) -> tuple[Encoder, ...]:
        genes = self._precomputed(
            f"{self.id}_genes",
            f"{self.title}, genes",
            str(arguments.get("csv_file_path", "")),
            arguments,
        )
        model = str(arguments.get("encoder_model_name", ""))
        diseases = self._make(
            {
                **self._text_model(f"{self.id}_diseases", model),
                "template": {"disease": "{description}"},
                "entities": ["disease"],
            }
        )
        composite = {
            "id": self.id,
            "title": self.title,
            "modality": "expression",
            "loader": "composite",
            "base": {"gene": genes.id, "disease": diseases.id},
            "entities": ["gene", "disease"],
        }
        return self._make(composite), genes, diseases


@lru_cache(maxsize=1)
def known_revisions() -> dict[str, str]:
    """Return the commits of the Hugging Face models in genebench's declarations, by model id."""
    found = {}
    for path in sorted((Path(__file__).parent / "declared").glob("*.yaml")):
        entry = yaml.safe_load(path.read_text())
        if entry.get("model") and entry.get("revision"):
            found[entry["model"]] = entry["revision"]
    return found
