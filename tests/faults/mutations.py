"""Mutates the bytes of a valid file."""

from hypothesis import strategies as st

_KINDS = ("flip", "cut", "insert", "repeat", "zero", "swap")
EDITS = st.lists(
    st.tuples(st.sampled_from(_KINDS), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=4,
)


def mutate(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """Apply edits, each at a place given as a share of the length."""
    for kind, place, noise in edits:
        at = min(int(place * len(content)), max(len(content) - 1, 0))
        before, after = content[:at], content[at:]
        if kind == "flip":
            content = (
                before
                + bytes(a ^ b for a, b in zip(after, noise, strict=False))
                + after[len(noise) :]
            )
        elif kind == "cut":
            content = before
        elif kind == "insert":
            content = before + noise + after
        elif kind == "repeat":
            content = before + after[: 64 * len(noise)] + after
        elif kind == "zero":
            content = before + bytes(len(noise)) + after[len(noise) :]
        else:
            content = after + before
    return content
