"""Reads YAML declarations strictly and describes every mistake, with a suggestion if possible."""

import difflib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.CSafeLoader):
    """Loads YAML's safe subset by libyaml; rejects duplicate keys instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a YAML mapping.

    Returns:
        The mapping (empty when unreadable) and the mistakes found.
    """
    try:
        # A subclass of SafeLoader constructs plain values only.
        data = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506
    except FileNotFoundError:
        return {}, [f"{path}: no such file"]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path}: cannot be read: {error}"]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or error
        return {}, [f"{path}:{line} not valid YAML: {problem}"]
    if data is None:
        return {}, []
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        return {}, [f"{path}: expected a mapping with text keys"]
    return data, []


def validate(
    model: type[Model], data: Mapping[str, Any], where: str
) -> tuple[Model | None, list[str]]:
    """Validate a declaration.

    Args:
        model: A pydantic model that forbids unknown keys.
        data: The declaration.
        where: File and entry; each mistake begins with it.

    Returns:
        The validated model, or None if it is invalid, and all mistakes, with suggestions for
        misspelt words.
    """
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, [f"{where}: {mistake}" for mistake in validation_messages(model, error)]


def validation_messages(model: type[BaseModel], error: ValidationError) -> Iterable[str]:
    """Describe each error that pydantic found, with a suggestion for a misspelt word."""
    for detail in error.errors(include_url=False):
        place = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            known = [field.alias or name for name, field in model.model_fields.items()]
            word = str(detail["loc"][-1])
            yield f"unknown key {word!r}{suggest(word, known)}"
        elif detail["type"] == "missing":
            yield f"the key {place!r} is missing"
        elif detail["type"] == "literal_error":
            expected = detail["ctx"]["expected"]
            options = [option.strip(" '") for option in expected.replace(" or ", ",").split(",")]
            word = str(detail["input"])
            yield f"{place}: {word!r} is not one of {expected}{suggest(word, options)}"
        else:
            message = detail["msg"].removeprefix("Value error, ")
            yield f"{place}: {message}" if place else message


def suggest(word: str, options: Iterable[str]) -> str:
    """Return `, did you mean 'column'?` with the option closest to a word, or an empty string."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
