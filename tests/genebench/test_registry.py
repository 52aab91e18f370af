"""Every mistake of every declaration is reported at once, with file, entry and suggestion."""

import shutil
from pathlib import Path

import pytest
import yaml

from genebench.errors import RegistryError
from genebench.registry.loading import DECLARATIONS, load_registry, profile_ids
from genebench.registry.profiles import PROFILES

FOLDERS = ("registry", "sources", "tasks", "encoders", "probes", "protocols")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of all declarations, to spoil."""
    for folder in FOLDERS:
        for path in (DECLARATIONS / folder).rglob("*.yaml"):
            target = tmp_path / path.relative_to(DECLARATIONS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path


def change(path: Path, **entries) -> None:
    data = yaml.safe_load(path.read_text())
    for name, values in entries.items():
        data[name] = {**data.get(name, {}), **values}
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def mistakes_of(root: Path, profile: str = "embedded", **options) -> list[str]:
    with pytest.raises(RegistryError) as error:
        load_registry(profile, root, **options)
    return error.value.mistakes


@pytest.mark.parametrize("profile", profile_ids())
def test_all_declarations_hold(profile):
    registry = load_registry(profile)
    assert registry.tasks
    assert set(registry.profile.encoders) <= set(registry.encoders)


def test_every_mistake_is_reported_at_once(root):
    genomic = root / "tasks" / "declared" / "embedded" / "genomic.yaml"
    change(genomic, chromosome={"recipe": "colum", "knid": "binary"})
    biological = root / "tasks" / "declared" / "embedded" / "biological.yaml"
    change(biological, hla_class={"source": "bioconductor.gene", "positive": None})
    change(root / PROFILES, embedded={"encoders": ["minlm"]})
    found = "\n".join(mistakes_of(root))
    tasks = "tasks/declared/embedded"
    for expected in (
        f"{tasks}/genomic.yaml: chromosome: unknown recipe 'colum', did you mean 'column'?",
        f"{tasks}/genomic.yaml: chromosome: unknown key 'knid', did you mean 'kind'?",
        f"{tasks}/biological.yaml: hla_class: a binary task must declare its positive class",
        "registry/profiles.yaml: embedded: encoders: no encoder 'minlm', did you mean 'minilm'?",
    ):
        assert expected in found


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"source": "bioconductor.gene"}, "no source file 'bioconductor.gene', did you mean"),
        ({"entity": "gen"}, "no catalogue for entity type 'gen', did you mean 'gene'?"),
        ({"kind": "multi-class"}, "kind: 'multi-class' is not one of"),
        ({"superseded_by": "chromosom"}, "superseded_by: no task 'chromosom', did you mean"),
        ({"expand": "binary"}, "`expand: binary` is for multilabel tasks"),
        ({"kind": "multilabel"}, "recipe 'column' builds binary, multiclass, regression tasks"),
        ({"with": {"id": "entrez_id", "namespace": "entrez"}}, "the key 'column' is missing"),
        (
            {"with": {"id": "a", "namespace": "entrez", "column": "b", "wher": {}}},
            "unknown key 'wher', did you mean 'where'?",
        ),
        ({"foreach": {"x": ["1"]}}, "the id does not use {x} of foreach"),
        ({"foreach": {"x": "1"}}, "foreach: each name needs a list of values"),
        ({"foreach": [{"x": 1}, {"y": 1}]}, "every entry of the list needs the same names"),
        ({"foreach": 3}, "foreach: expected lists by name, or a list of mappings"),
    ],
)
def test_a_mistake_names_file_entry_and_remedy(root, entry, expected):
    change(root / "tasks" / "declared" / "embedded" / "genomic.yaml", chromosome=entry)
    found = [m for m in mistakes_of(root) if expected in m]
    assert found, mistakes_of(root)
    assert found[0].startswith("tasks/declared/embedded/genomic.yaml: chromosome")


def test_a_bad_id_a_repeated_key_and_a_second_declaration_are_refused(root):
    path = root / "tasks" / "declared" / "embedded" / "genomic.yaml"
    text = path.read_text()
    path.write_text(text + text[text.index("chromosome:") :])
    assert any("the key 'chromosome' is written twice" in m for m in mistakes_of(root))
    path.write_text(text.replace("chromosome:", "Chromo-some:", 1))
    assert any("id: String should match pattern" in m for m in mistakes_of(root))
    path.write_text(text)
    shutil.copy(path, path.with_name("protein.yaml"))
    assert any("chromosome: declared twice" in m for m in mistakes_of(root))


def test_defaults_are_for_entries_without_a_source_of_their_own(root):
    path = root / "tasks" / "declared" / "embedded" / "genomic.yaml"
    arguments = {"id": "entrez_id", "namespace": "entrez", "column": "chromosome"}
    own = {"source": "bioconductor.publications", "title": "P", "kind": "regression"}
    entries = {
        "defaults": {"source": "bioconductor.genes", "recipe": "column", "with": arguments},
        "one": {"title": "One", "kind": "multiclass", "with": {"drop": ["MT"]}},
        "two": {**own, "recipe": "count", "with": {**arguments, "column": "n_publications"}},
    }
    path.write_text(yaml.safe_dump(entries))
    tasks = load_registry("embedded", root).tasks
    assert tasks["one"].source == ("bioconductor.genes",)
    assert tasks["one"].arguments == {**arguments, "drop": ["MT"]}
    assert tasks["two"].arguments == {**arguments, "column": "n_publications"}


def test_foreach_writes_out_combinations_and_rows(root):
    path = root / "tasks" / "declared" / "embedded" / "genomic.yaml"
    shared = {"kind": "multiclass", "source": "bioconductor.genes", "recipe": "column"}
    columns = {"id": "entrez_id", "namespace": "entrez", "column": "{what} of {where}"}
    entries = {
        "{what}_in_{where}": {
            **shared,
            "title": "{what}",
            "foreach": {"what": ["Big thing", "b"], "where": ["x", "y"]},
            "with": columns,
        },
        "of_{name}": {
            **shared,
            "title": "T",
            "foreach": [{"name": "A", "n": 1}, {"name": "B", "n": 2}],
            "paper": {"task": "{name}", "size": "{n}"},
            "with": {**columns, "column": "{name}"},
        },
    }
    path.write_text(yaml.safe_dump(entries))
    tasks = load_registry("embedded", root).tasks
    names = {"big_thing_in_x", "big_thing_in_y", "b_in_x", "b_in_y", "of_a", "of_b"}
    assert names <= set(tasks)
    assert tasks["big_thing_in_x"].arguments["column"] == "Big thing of x"
    assert tasks["of_b"].paper.size == 2


def test_an_unknown_profile_suggests_the_nearest(root):
    assert "did you mean 'paper'" in mistakes_of(root, "papr")[0]


def test_a_newcomer_adds_a_task_by_one_entry(root):
    """The entry of CONTRIBUTING.md, which has fewer than ten lines."""
    entry = (
        "map_location:\n"
        "  title: Cytogenetic band\n"
        "  kind: multiclass\n"
        "  source: bioconductor.genes\n"
        "  recipe: column\n"
        "  with: {id: entrez_id, namespace: entrez, column: map_location}\n"
        "  description: The band of its chromosome that a gene lies on.\n"
    )
    assert entry.count("\n") < 10
    path = root / "tasks" / "declared" / "embedded" / "genomic.yaml"
    path.write_text(path.read_text() + "\n" + entry)
    task = load_registry("embedded", root).tasks["map_location"]
    assert (task.family, task.kind, task.entity) == ("genomic", "multiclass", ("gene",))


def test_versions_are_chosen_by_source_or_by_file(root):
    registry = load_registry("paper", root, versions={"hpa": "18.1", "uniprot.human_keywords": "x"})
    assert registry.wanted_versions["hpa.proteinatlas"] == "18.1"
    assert registry.wanted_versions["uniprot.human_keywords"] == "x"
    assert "uniprot.human_sequences" not in registry.wanted_versions
    wrong = mistakes_of(root, "paper", versions={"hpaa": "18.1"})
    assert "no source or file 'hpaa', did you mean 'hpa'?" in wrong[0]


def test_selecting_what_does_not_exist_suggests_what_does():
    registry = load_registry("paper")
    with pytest.raises(RegistryError, match="did you mean 'chromosome'"):
        registry.select_tasks(["chromosom"])
    with pytest.raises(RegistryError, match=r"no family 'protien'.*did you mean 'protein'"):
        registry.select_tasks([], ["genomic", "protien"])
    with pytest.raises(RegistryError, match="did you mean 'paper'"):
        registry.choose_protocol("papr")
    with pytest.raises(RegistryError, match="did you mean 'linear'"):
        registry.choose_probe("liner")
    assert len(registry.select_tasks(["pathology_*"])) == 17
    assert registry.select_tasks([], ["protein"]) == [
        "uniprot_keyword_ptm",
        "uniprot_keyword_ligand",
        "uniprot_keyword_domain",
    ]
    assert registry.select_files(["hpa"]) == ["hpa.proteinatlas"]
