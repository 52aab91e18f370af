"""Words of labels, their removal from texts, and control labels."""

import pytest

from genebench.evaluation.word_masking import label_words, mask_words, match_label


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Nucleus", {"nucleus"}),
        ("plasma membranes", {"plasma", "membrane"}),
        ("Transcription factor activity", {"transcription", "factor"}),
        ("protein binding", set()),
        ("HLA class II", {"hla"}),
    ],
)
def test_the_words_of_a_label_are_its_telling_ones(label, words):
    assert label_words(label) == words


def test_every_form_of_a_word_is_masked_and_nothing_else():
    words = label_words("membrane transport")
    text = "A Membrane-bound carrier of membranes, transporters; transports and port of memory."
    masked, n = mask_words(text, words)
    assert masked == "A -bound carrier of , ; and port of memory."
    assert n == 4
    assert mask_words(text, frozenset()) == (text, 0)


def test_a_short_word_hides_no_longer_one():
    masked, n = mask_words("ion channel and ionic current", label_words("ion channel"))
    assert (masked, n) == ("and ionic current", 2)


def test_the_matched_label_is_masked_as_often_and_shares_no_word():
    labels = ["nuclear membrane", "plasma membrane", "cytosol", "ribosome", "unseen"]
    counts = dict(zip(labels, (50, 51, 200, 40, 0), strict=True))
    assert match_label("nuclear membrane", labels, counts) == "ribosome"
    assert match_label("cytosol", ["cytosol", "unseen"], counts) is None


@pytest.mark.parametrize("own", ["Ubiquitin", "Ubiquitination"])
def test_a_longer_form_of_a_word_is_no_other_word(own):
    labels = ["Ubiquitin", "Ubiquitination", "Kinase"]
    counts = dict(zip(labels, (10, 10, 5), strict=True))
    assert match_label(own, labels, counts) == "Kinase"
