"""Maps names in published results to tasks, encoders, probes and metrics of genebench."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from genebench.errors import RegistryError
from genebench.evaluation.metrics import METRICS
from genebench.registry.yaml_reader import read_yaml, validate
from genebench.tasks.declaration import Task, slugify

NAMES = Path(__file__).with_name("published_names.yaml")

_SCORERS = {"neg_root_mean_squared_error": "rmse", "neg_mean_absolute_error": "mae"}
_SUFFIXES = ("_ovr_weighted", "_ovr", "_weighted")


class PublishedNames(BaseModel):
    """Names in published results, as declared in `published_names.yaml`.

    Args:
        encoders: Model name to encoder_id.
        tasks: Task name to the name in the paper's tables.
        causes: Task name in the paper's tables to the reason why its number may not be reproduced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoders: Mapping[str, str]
    tasks: Mapping[str, str]
    causes: Mapping[str, str]

    def encoder_of(self, name: str) -> str | None:
        """Return the encoder of a published model name or encoder_id; None if unknown."""
        known = {slugify(word): encoder_id for word, encoder_id in self.encoders.items()}
        if name in known.values():
            return name
        return known.get(slugify(name))

    def task_of(self, name: str, tasks: Mapping[str, Task]) -> str | None:
        """Return the task with a published name: its name in the paper, its title or its id."""
        wanted = self._paper_name(name)
        # The paper's name first: the titles and paper names of N1 network and N1 targets cross.
        for names in (
            {task.id: task.paper.task for task in tasks.values() if task.paper},
            {task.id: task.title for task in tasks.values()},
            {task_id: task_id for task_id in tasks},
        ):
            for task_id, known in names.items():
                if slugify(known) == wanted:
                    return task_id
        return None

    def cause_of(self, name: str) -> str | None:
        """Return why the published number of a task may not be reproduced; None if unknown."""
        known = {slugify(word): cause for word, cause in self.causes.items()}
        return known.get(self._paper_name(name))

    def _paper_name(self, name: str) -> str:
        aliases = {slugify(word): slugify(paper_name) for word, paper_name in self.tasks.items()}
        return aliases.get(slugify(name), slugify(name))


@cache
def read_published_names() -> PublishedNames:
    """Read `published_names.yaml`.

    Raises:
        RegistryError: The file is invalid.
    """
    data, mistakes = read_yaml(NAMES)
    found, wrong = validate(PublishedNames, data, NAMES.name)
    if found is None:
        raise RegistryError([*mistakes, *wrong])
    return found


def probe_of(name: str) -> str:
    """Return the probe of a published base model; `linear` if the model is not named.

    >>> probe_of("LogisticRegression(max_iter=5000)"), probe_of("MLPClassifier()"), probe_of("")
    ('linear', 'mlp', 'linear')
    """
    if not name or "LogisticRegression" in name or "LinearRegression" in name:
        return "linear"
    return "mlp" if "MLP" in name or "Perceptron" in name else name


def metric_of(scorer: str) -> tuple[str, float] | None:
    """Return the metric of a scikit-learn scorer name and the sign to multiply its numbers by.

    >>> metric_of("roc_auc_ovr_weighted"), metric_of("neg_mean_absolute_error")
    (('roc_auc', 1.0), ('mae', -1.0))
    >>> metric_of("nonsense") is None
    True
    """
    if scorer in _SCORERS:
        return _SCORERS[scorer], -1.0
    for suffix in _SUFFIXES:
        scorer = scorer.removesuffix(suffix)
    return (scorer, 1.0) if scorer in METRICS else None
