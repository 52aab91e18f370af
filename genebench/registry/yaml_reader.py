"""Reads YAML declarations strictly and describes every mistake, with a suggestion if possible."""

import difflib
import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)

# libyaml's loader crashes the process at some ten thousand levels, Python gives up at some hundred.
MAX_LEVELS = 100
# What can nest at the start of a line: indentation and the signs of lists and mappings.
_LINE_START = re.compile(r"^[ ?:\ufeff-]*", re.MULTILINE)


class _StrictLoader(yaml.CSafeLoader):
    """Loads YAML's safe subset by libyaml; rejects duplicate keys instead of keeping the last."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, AttributeError, LookupError) as error:
            # Of a scalar that does not fit its tag: `2024-99-99`, `!!int x`, `!!bool x`.
            what = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                # It is refused below.
                break
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
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        # A subclass of SafeLoader constructs plain values only.
        data = yaml.load(text, _StrictLoader)  # noqa: S506
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


def _check_shape(text: str) -> None:
    """Refuse values that are too deep, or that aliases of aliases make too large."""
    # Only texts that could be either are read twice.
    depth = text.count("[") + text.count("{") + 2 * max(map(len, _LINE_START.findall(text)))
    if depth <= MAX_LEVELS and not ("&" in text and "*" in text):
        return
    # For each value that is open, whether it or one around it has an anchor.
    anchored: list[bool] = []
    problem = None
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None or anchored[-1:] == [True])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent) and anchored[-1:] == [True]:
            problem = f"the alias *{event.anchor} is inside of a value that has an anchor"
        if len(anchored) > MAX_LEVELS:
            problem = f"it is nested more than {MAX_LEVELS} levels deep"
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, None)


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


def suggest(word: object, options: Iterable[str]) -> str:
    """Return `, did you mean 'column'?` with the option closest to a word, or an empty string."""
    near = difflib.get_close_matches(str(word), list(options), n=1, cutoff=0.6)
    return f", did you mean {near[0]!r}?" if near else ""
