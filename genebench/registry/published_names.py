"""The names of the published results, and the tasks and encoders that they mean here."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from genebench.errors import RegistryError
from genebench.evaluation.metrics import METRICS
from genebench.registry.yaml_reader import read_yaml, validate
from genebench.tasks.declaration import Task, slug

NAMES = Path(__file__).with_name("published_names.yaml")

_SCORERS = {"neg_root_mean_squared_error": "rmse", "neg_mean_absolute_error": "mae"}
_SUFFIXES = ("_ovr_weighted", "_ovr", "_weighted")


class PublishedNames(BaseModel):
    """Names in published results.

    Args:
        encoders: Model name to encoder_id.
        tasks: Task name to the name in the paper's tables.
        causes: Task name (of the paper's tables) to why its number may not be met.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoders: Mapping[str, str]
    tasks: Mapping[str, str]
    causes: Mapping[str, str]

    def encoder_of(self, name: str) -> str | None:
        """The encoder that a published model name means; an encoder_id means itself."""
        known = {slug(word): encoder_id for word, encoder_id in self.encoders.items()}
        if name in known.values():
            return name
        return known.get(slug(name))

    def task_of(self, name: str, tasks: Mapping[str, Task]) -> str | None:
        """The task that a published name means: by the paper's name, its title or its id."""
        wanted = self._official(name)
        # The paper's name goes first: two tasks may bear each other's names (N1 network, targets).
        for names in (
            {task.id: task.paper.task for task in tasks.values() if task.paper},
            {task.id: task.title for task in tasks.values()},
            {task_id: task_id for task_id in tasks},
        ):
            for task_id, known in names.items():
                if slug(known) == wanted:
                    return task_id
        return None

    def cause_of(self, name: str) -> str | None:
        """Why the published number of a task may not be met, where that is known."""
        known = {slug(word): cause for word, cause in self.causes.items()}
        return known.get(self._official(name))

    def _official(self, name: str) -> str:
        aliases = {slug(word): slug(official) for word, official in self.tasks.items()}
        return aliases.get(slug(name), slug(name))


@cache
def read_published() -> PublishedNames:
    """The declared names.

    Raises:
        RegistryError: The file is wrong.
    """
    data, mistakes = read_yaml(NAMES)
    found, wrong = validate(PublishedNames, data, NAMES.name)
    if found is None:
        raise RegistryError([*mistakes, *wrong])
    return found


def probe_of(name: str) -> str:
    """The probe that a published base model means; one that is not said is the linear one.

    >>> probe_of("LogisticRegression(max_iter=5000)"), probe_of("MLPClassifier()"), probe_of("")
    ('linear', 'mlp', 'linear')
    """
    if not name or "LogisticRegression" in name or "LinearRegression" in name:
        return "linear"
    return "mlp" if "MLP" in name or "Perceptron" in name else name


def metric_of(scorer: str) -> tuple[str, float] | None:
    """The metric of a published scorer's name, with the sign to multiply its numbers by.

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
