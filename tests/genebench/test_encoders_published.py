"""Conversion of model files of the published package, which run unchanged."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, load_encoder
from genebench.encoders.published_files import convert_published_file
from genebench.errors import RegistryError
from genebench.registry.loading import declarations_folder, load_registry

MPNET = """
descriptor:
  class_name: NCBIDescriptor
  class_args:
    allow_partial: False
encoder:
  class_name: SentenceTransformerEncoder
  class_args:
    encoder_model_name: sentence-transformers/all-mpnet-base-v2
"""
PRECOMPUTED = """
encoder:
  class_name: PreComputedEncoder
  class_args:
    encoder_model_name: ./encodings.csv
base_model:
  class_name: LogisticRegression
  class_args:
    max_iter: 5000
    n_jobs: -1
model_name: Gene2Vec
"""
DNABERT2 = """
descriptor:
  class_name: BasePairDescriptor
encoder:
  class_name: BERTEncoder
  class_args:
    encoder_model_name: zhihan1996/DNABERT-2-117M
    tokenizer_name: zhihan1996/DNABERT-2-117M
    trust_remote_code: True
    maximal_context_size: 8192
"""
GENE_DISEASE = """
descriptor:
  class_name: GeneDiseaseDescriptions
  class_args:
    csv_file_path: descriptions.csv
    csv_type: diseaseId
    naive_descriptor: True
encoder:
  class_name: get_gene_disease_multi_encoder
  class_args:
    csv_file_path: ./encodings.csv
    encoder_model_name: sentence-transformers/all-mpnet-base-v2
post_processing: concat
base_model:
  class_name: LinearRegression
"""


def published(text: str, folder: Path = Path("models")) -> object:
    return convert_published_file(yaml.safe_load(text), folder / "a_model.yaml")


def test_a_sentence_transformer_keeps_its_text_and_gets_our_pinned_commit() -> None:
    found = published(MPNET)
    encoder = found.encoders[0]
    registered = read_encoder(declarations_folder("encoders") / "mpnet.yaml")
    assert (encoder.model, encoder.revision) == (registered.model, registered.revision)
    assert encoder.templates("gene") == registered.templates("gene")[:1]
    assert encoder.missing == "skip"
    assert found.pair_join == "mean"
    assert found.estimator is None


def test_the_descriptors_options_become_template_and_rule() -> None:
    text = MPNET.replace("allow_partial: False", "allow_partial: True\n    add_summary: False")
    encoder = published(text).encoders[0]
    assert encoder.missing == "partial"
    assert encoder.templates("gene") == ("Gene symbol {symbol} full name {name}",)


def test_a_precomputed_file_runs_from_its_csv_and_keeps_the_gene_na(tmp_path: Path) -> None:
    (tmp_path / "encodings.csv").write_text("symbol,0,1\nTP53,1,2\nNA,3,4\nOLD,5,6\n")
    path = tmp_path / "gene2vec.yaml"
    path.write_text(PRECOMPUTED)
    encoder = read_encoder(path)
    xrefs = pl.DataFrame(
        {
            "namespace": "symbol",
            "identifier": ["TP53", "NA"],
            "entity_id": ["hgnc:11998", "hgnc:5"],
            "status": "approved",
            "is_ambiguous": False,
        }
    )
    inputs = LoaderInput("gene", ["hgnc:11998", "hgnc:5"], xrefs=xrefs)
    vectors = load_encoder(encoder, LoaderContext()).encode(inputs, lambda n: None)
    rows = dict(zip(vectors.entity_ids, vectors.matrix.tolist(), strict=True))
    assert rows == {"hgnc:11998": [1.0, 2.0], "hgnc:5": [3.0, 4.0]}
    assert vectors.counts["n_unmapped"] == 1
    assert (encoder.id, encoder.title) == ("gene2vec", "Gene2Vec")
    assert np.isfinite(vectors.matrix).all()


def test_the_base_model_becomes_an_estimator_of_scikit_learn() -> None:
    found = published(PRECOMPUTED)
    assert found.estimator == "LogisticRegression"
    assert found.estimator_arguments == {"max_iter": 5000, "n_jobs": -1}
    multilayer = PRECOMPUTED.replace("LogisticRegression", "Multilayer_Perceptron_classifier")
    assert published(multilayer).estimator == "MLPClassifier"


@pytest.mark.parametrize(
    ("name", "probe"),
    [
        ("LogisticRegression", None),
        ("LinearRegression", None),
        ("RandomForestClassifier", "random_forest"),
        ("RandomForestRegressor", "random_forest"),
        ("Multilayer_Perceptron_classifier", "mlp"),
        ("Multilayer_Perceptron_regressor", "mlp"),
    ],
)
def test_every_base_model_is_read_by_a_probe_of_ours(name, probe, tmp_path) -> None:
    (tmp_path / "encodings.csv").write_text("symbol,0\nTP53,1\n")
    path = tmp_path / "gene2vec.yaml"
    path.write_text(PRECOMPUTED.replace("LogisticRegression", name))
    registry = load_registry("embedded", encoder_files=[str(path)])
    found = registry.declared_probes().get("gene2vec")
    assert (found.id if found else None) == probe


def test_what_is_not_taken_over_is_table_in_the_description() -> None:
    said = published(GENE_DISEASE).encoders[0].description
    assert "the protocol decides how the vectors of a pair are joined" in said
    assert "not this file (concat)" in said
    assert "arguments" in published(PRECOMPUTED).encoders[0].description


def test_dnabert2_never_runs_remote_code_and_says_what_differs() -> None:
    found = published(DNABERT2)
    encoder = found.encoders[0]
    assert encoder.loader == "dna_transformer"
    assert encoder.arguments["architecture"] == "mosaic_bert"
    assert encoder.field == "genomic"
    assert any("remote code is never run" in note for note in found.notes)
    assert any("weighted by length" in note for note in found.notes)


def test_genes_and_diseases_become_a_composite_of_two_encoders() -> None:
    found = published(GENE_DISEASE)
    both, genes, diseases = found.encoders
    assert both.bases("gene") == (genes.id,)
    assert both.bases("disease") == (diseases.id,)
    assert (genes.loader, diseases.loader) == ("precomputed", "sentence_transformer")
    assert diseases.entities == ("disease",)
    assert (found.pair_join, found.estimator) == ("concat", "LinearRegression")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SentenceTransformerEncoder", "SentenceTransformersEncoder", "did you mean"),
        ("NCBIDescriptor", "NCBIPromptsMaker", "unknown class_name 'NCBIPromptsMaker'"),
        ("all-mpnet-base-v2", "all-unheard-of", "add `revision: "),
        ("encoder_model_name:", "encoder_name:", "encoder_model_name is missing"),
        ("descriptor:", "descriptr:", "unknown key 'descriptr', did you mean 'descriptor'"),
    ],
)
def test_a_wrong_published_file_is_one_clear_error(old: str, new: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        published(MPNET.replace(old, new))


@pytest.mark.parametrize(
    ("text", "old", "new", "said"),
    [
        (DNABERT2, "BasePairDescriptor", "NCBIDescriptor", "'NCBIDescriptor' returns texts"),
        (
            DNABERT2,
            "descriptor:\n  class_name: BasePairDescriptor\n",
            "",
            "the file has no descriptor",
        ),
        (DNABERT2, "tokenizer_name: zhihan1996/", "tokenizer_name: other/", "tokenizer_name"),
        (PRECOMPUTED, "./encodings.csv", "v.csv\n    read_csv_params: {header: 3}", "index_col"),
    ],
)
def test_what_would_give_other_vectors_is_refused(text: str, old: str, new: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        published(text.replace(old, new))


def test_the_column_and_separator_of_a_table_are_taken_over() -> None:
    table = './encodings.csv\n    read_csv_params: {index_col: gene, sep: "\\t"}'
    encoder = published(PRECOMPUTED.replace("./encodings.csv", table)).encoders[0]
    assert encoder.arguments == {"namespace": "symbol", "key": "gene", "format": "tsv"}


def test_a_model_beside_the_file_is_found_there(tmp_path: Path) -> None:
    text = MPNET.replace("sentence-transformers/all-mpnet-base-v2", "./models/mine")
    assert published(text, tmp_path).encoders[0].model == str(tmp_path / "models" / "mine")


def test_a_hub_model_that_we_do_not_know_runs_with_a_commit_added_to_the_file() -> None:
    text = MPNET.replace("all-mpnet-base-v2", "all-unheard-of") + f"revision: {'a' * 40}\n"
    assert published(text).encoders[0].revision == "a" * 40
