"""Model files of the published package (`gene-benchmark`), read as encoders of ours.

Such a file names a `descriptor` (what text), an `encoder` (what vectors), perhaps a `base_model`
(what estimator) and `post_processing` (how the vectors of a pair are joined). Where its meaning
here differs, a note says so; nothing is guessed in silence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from genebench.encoders.declaration import Encoder, anchor_paths, describe_near, is_hub
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
# The probe that reads a file's encoder; a linear model is what the protocol's own probe is.
PROBES = {
    "RandomForestClassifier": "random_forest",
    "RandomForestRegressor": "random_forest",
    "MLPClassifier": "mlp",
    "MLPRegressor": "mlp",
}
DNABERT2 = "zhihan1996/DNABERT-2-117M"


@dataclass(frozen=True)
class PublishedEncoder:
    """What a published model file says, in our words.

    Args:
        encoders: The encoder of the file first, then those it is made from.
        pair_join: How the vectors of a pair are joined.
        estimator: scikit-learn's name of the estimator, None for the protocol's own.
        estimator_arguments: Its arguments as in the file.
        notes: Where our reading differs from the published package's.
    """

    encoders: tuple[Encoder, ...]
    pair_join: Literal["mean", "concat"] = "mean"
    estimator: str | None = None
    estimator_arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_published(entry: Any) -> bool:
    """Whether a YAML mapping is a published model file rather than one of our declarations."""
    return isinstance(entry, dict) and isinstance(entry.get("encoder"), dict)


def convert(entry: dict[str, Any], path: Path) -> PublishedEncoder:
    """Read a published model file.

    Args:
        entry: The parsed YAML.
        path: Of the file; names the encoder where the file does not, and anchors paths.

    Raises:
        RegistryError: A class or key is unknown, or a hub model has no known commit.
    """
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        raise RegistryError(
            [f"{path}: unknown key {unknown[0]!r}{describe_near(unknown[0], KEYS)}"]
        )
    reader = _Reader(entry, path)
    join = entry.get("post_processing", "average")
    if join not in {"average", "concat"}:
        raise RegistryError([f"{path}: post_processing: {join!r} is neither average nor concat"])
    estimator: str | None = None
    arguments: dict[str, Any] = {}
    if entry.get("base_model"):
        name, arguments = reader.named("base_model", tuple(ESTIMATORS))
        estimator = ESTIMATORS[name]
        if arguments:
            reader.notes.append("the estimator's arguments are those of genebench's probe")
    first, *others = reader.encoders()
    if "post_processing" in entry:
        reader.notes.append(f"the protocol joins the vectors of a pair, not this file ({join})")
    told = {"probe": PROBES.get(estimator or ""), "description": "; ".join(reader.notes)}
    return PublishedEncoder(
        (first.model_copy(update=told), *others),
        "concat" if join == "concat" else "mean",
        estimator,
        arguments,
        tuple(reader.notes),
    )


class _Reader:
    """Collects what a file says and the notes about it."""

    def __init__(self, entry: dict[str, Any], path: Path) -> None:
        self.entry = entry
        self.path = path
        self.notes: list[str] = []
        label = str(entry.get("model_name") or path.stem)
        self.title = label
        self.id = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "published"

    def named(self, key: str, known: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
        part = self.entry[key]
        name = part.get("class_name") if isinstance(part, dict) else None
        if name not in known:
            near = describe_near(str(name), known)
            raise RegistryError([f"{self.path}: {key}: unknown class_name {name!r}{near}"])
        return name, dict(part.get("class_args") or {})

    def encoders(self) -> tuple[Encoder, ...]:
        name, arguments = self.named("encoder", ENCODERS)
        if name == "get_gene_disease_multi_encoder":
            return self._gene_and_disease(arguments)
        model = arguments.get("encoder_model_name")
        if not isinstance(model, str):
            raise RegistryError([f"{self.path}: encoder: class_args.encoder_model_name is missing"])
        if name == "PreComputedEncoder":
            return (self._precomputed(self.id, self.title, model, arguments),)
        if name == "BERTEncoder":
            return (self._sequence(model, arguments),)
        texts = self._texts()
        return (self._make({**self._text_model(self.id, model), **texts}),)

    def _refusal(self, reason: str) -> RegistryError:
        return RegistryError([f"{self.path}: {reason}"])

    def _make(self, values: dict[str, Any]) -> Encoder:
        try:
            return Encoder.model_validate(anchor_paths(values, self.path.parent))
        except ValueError as error:
            raise RegistryError([f"{self.path}: {error}"]) from error

    def _text_model(self, encoder_id: str, model: str) -> dict[str, Any]:
        hub = model if is_hub(model) or "/" in model else f"sentence-transformers/{model}"
        return {
            "id": encoder_id,
            "title": self.title,
            "modality": "text",
            "loader": "sentence_transformer",
            "model": hub,
            "revision": self._revision(hub),
        }

    def _revision(self, model: str) -> str | None:
        if not is_hub(model):
            return None
        revision = self.entry.get("revision") or known_revisions().get(model)
        if revision is None:
            unpinned = f"{self.path}: the published format does not pin {model!r}; add "
            raise RegistryError([unpinned + "`revision: <its 40-digit commit>` to the file"])
        return str(revision)

    def _texts(self) -> dict[str, Any]:
        if not self.entry.get("descriptor"):
            self.notes.append("no descriptor: the symbol itself is the text")
            return {"template": "{symbol}"}
        name, arguments = self.named("descriptor", DESCRIPTORS)
        missing = "partial" if arguments.get("allow_partial", name == "CSVDescriptions") else "skip"
        gene = FULL if arguments.get("add_summary", True) else SHORT
        if name == "NCBIDescriptor":
            return {"template": gene, "missing": missing}
        source = arguments.get("csv_file_path", "the CSV file")
        self.notes.append(f"descriptions are those of the lake's inputs, not of {source}")
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
        raise RegistryError([f"{self.path}: descriptor {name!r} gives sequences, not texts"])

    def _table(self, arguments: dict[str, Any]) -> dict[str, str]:
        """How the published package reads its table: the column of names, and the format."""
        options = dict(arguments.get("read_csv_params") or {})
        key, separator = options.pop("index_col", "symbol"), options.pop("sep", ",")
        if options or not isinstance(key, str) or separator not in {",", "\t"}:
            raise self._refusal(
                "encoder: read_csv_params may name `index_col` and a `sep` of comma or tab; "
                "declare any other table as an encoder of its own (`loader: precomputed`)"
            )
        return {"key": key, "format": "csv" if separator == "," else "tsv"}

    def _precomputed(
        self, encoder_id: str, title: str, model: str, arguments: dict[str, Any]
    ) -> Encoder:
        path = Path(model).expanduser()
        self.notes.append("symbols without a vector stay without one; none is drawn at random")
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

    def _sequence(self, model: str, arguments: dict[str, Any]) -> Encoder:
        self._require_sequences()
        if (tokenizer := arguments.get("tokenizer_name") or model) != model:
            raise self._refusal(
                f"encoder: tokenizer_name {tokenizer!r} is not the model {model!r}; a model is "
                "read with its own tokenizer only"
            )
        if arguments.get("trust_remote_code"):
            self.notes.append("remote code is never run; the network is genebench's own")
        if arguments.get("maximal_context_size"):
            self.notes.append(
                "long genes are cut by tokens and weighted by length, not cut by characters"
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

    def _require_sequences(self) -> None:
        name = self.named("descriptor", DESCRIPTORS)[0] if self.entry.get("descriptor") else None
        if name != "BasePairDescriptor":
            given = f"descriptor {name!r} gives texts" if name else "without a descriptor"
            raise self._refusal(
                f"{given}, but a BERTEncoder is read with a BasePairDescriptor only; for texts "
                "name a SentenceTransformerEncoder"
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
        both = {
            "id": self.id,
            "title": self.title,
            "modality": "expression",
            "loader": "composite",
            "base": {"gene": genes.id, "disease": diseases.id},
            "entities": ["gene", "disease"],
        }
        return self._make(both), genes, diseases


@lru_cache(maxsize=1)
def known_revisions() -> dict[str, str]:
    """Commits of the hub models that our own declarations pin."""
    found = {}
    for path in sorted((Path(__file__).parent / "declared").glob("*.yaml")):
        entry = yaml.safe_load(path.read_text())
        if entry.get("model") and entry.get("revision"):
            found[entry["model"]] = entry["revision"]
    return found
