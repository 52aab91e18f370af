"""Words of a task's own labels taken out of texts, to see how much of a score was in the words.

A description that says "nucleus" gives away the label "Nucleus". The words of a label are masked,
and as a yardstick the words of another label of the same task that occur about as often: what both
masks cost alike is the cost of missing words, the rest is leakage.
"""

import re
from collections.abc import Mapping, Sequence

# Words of labels that tell nothing by themselves, and shorter ones than this, stay.
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


def words_of(label: str) -> frozenset[str]:
    """The telling words of a label, in lower case and without a plural's s.

    >>> sorted(words_of("Transcription factor activity"))
    ['factor', 'transcription']
    """
    found = (_stem(word) for word in _WORD.findall(label))
    return frozenset(w for w in found if len(w) >= MIN_LETTERS and w not in STOP_WORDS)


def mask_words(text: str, words: frozenset[str]) -> tuple[str, int]:
    """Take out every word that is one of some, or a longer form of one.

    No sign is left in its place: it would tell what the word told.

    Args:
        text: Any text.
        words: As `words_of` gives them; longer forms of those with six letters or more count too
            (`transcriptional` of `transcription`).

    Returns:
        The text without them, and how many there were.
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


def match_label(own: str, labels: Sequence[str], counts: Mapping[str, int]) -> str | None:
    """The label whose words are masked about as often as the own label's, and are other words.

    Args:
        own: The label.
        labels: All labels of the task.
        counts: Words masked by each label over all texts.

    Returns:
        Another label, None if none shares no word, or longer form of one, with the own one and
        masks anything.
    """
    words = words_of(own)
    others = [
        label
        for label in labels
        if label != own and counts[label] and not _is_shared(words, words_of(label))
    ]
    return min(others, key=lambda label: (abs(counts[label] - counts[own]), label), default=None)


def _is_shared(own: frozenset[str], other: frozenset[str]) -> bool:
    """Whether the mask of one label takes out a word of the other."""
    return any(mask_words(word, own)[1] for word in other) or any(
        mask_words(word, other)[1] for word in own
    )


def _stem(word: str) -> str:
    lower = word.lower()
    return lower[:-1] if lower.endswith("s") and not lower.endswith(("ss", "us", "is")) else lower
