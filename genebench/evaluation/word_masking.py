"""Removes the words of a label from texts, to measure leakage of labels into texts.

A text that contains "nucleus" reveals the label "Nucleus". The study removes the words of a label
and, as a control, the words of another label of the same task that occur about as often. The loss
of score with the control is the effect of missing words; the additional loss is leakage.
"""

import re
from collections.abc import Mapping, Sequence

# Words of labels that are never removed: uninformative ones, and those below MIN_LETTERS.
STOP_WORDS = frozenset(
    {
        "activity",
        "and",
        "binding",
        "cell",
        "class",
        "for",
        "from",
        "gene",
        "involved",
        "not",
        "other",
        "part",
        "process",
        "protein",
        "regulation",
        "system",
        "the",
        "type",
        "via",
        "with",
    }
)
MIN_LETTERS = 3
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]+")


def label_words(label: str) -> frozenset[str]:
    """The informative words of a label, in lower case and singular.

    >>> sorted(label_words("Transcription factor activity"))
    ['factor', 'transcription']
    """
    found = (_stem(word) for word in _WORD.findall(label))
    return frozenset(w for w in found if len(w) >= MIN_LETTERS and w not in STOP_WORDS)


def mask_words(text: str, words: frozenset[str]) -> tuple[str, int]:
    """Remove words and their longer forms from a text.

    No placeholder is left, because a model could use the placeholder as it used the word.

    Args:
        text: Text to mask.
        words: Words from `label_words`. Of words with six letters or more, longer forms are
            removed too (`transcriptional` for `transcription`).

    Returns:
        The text without these words, and the number of words removed.
    """
    n_masked = 0
    long = tuple(word for word in words if len(word) >= 6)

    def replace(match: re.Match[str]) -> str:
        nonlocal n_masked
        word = _stem(match.group())
        if word in words or (long and word.startswith(long)):
            n_masked += 1
            return ""
        return match.group()

    masked = _WORD.sub(replace, text)
    return (" ".join(masked.split()) if n_masked else text), n_masked


def match_label(label: str, labels: Sequence[str], counts: Mapping[str, int]) -> str | None:
    """Find the control of a label: another label whose words are removed about as often.

    Args:
        label: The label.
        labels: All labels of the task.
        counts: Number of words removed for each label over all texts.

    Returns:
        The label with the nearest count among those that share no word with `label` (longer forms
        included) and remove at least one word; None if there is none.
    """
    words = label_words(label)
    controls = [
        other
        for other in labels
        if other != label and counts[other] and not _is_shared(words, label_words(other))
    ]
    return min(
        controls, key=lambda other: (abs(counts[other] - counts[label]), other), default=None
    )


def _is_shared(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether masking the words of one label removes a word of the other."""
    return any(mask_words(word, first)[1] for word in second) or any(
        mask_words(word, second)[1] for word in first
    )


def _stem(word: str) -> str:
    lower = word.lower()
    return lower[:-1] if lower.endswith("s") and not lower.endswith(("ss", "us", "is")) else lower
