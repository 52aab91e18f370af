"""Refuses a pickle that asks for far more memory than it has bytes, before it is read.

A pickle stores objects in a memo by their index. The unpickler of Python 3.11 makes room for every
index below the one that it reads, so ten damaged or malicious bytes can take 64 GB.
"""

import pickletools
import re
from collections.abc import Iterator
from contextlib import suppress

# The opcodes that store an object in the memo: an index of 4 bytes, or a line of text.
_LONG_BINPUT, _PUT = b"r", b"p"
_STOP = b"."
# Opcode to the bytes of its argument; negative numbers are kinds of arguments of any length.
_N_BYTES = {
    opcode.code.encode("latin-1"): opcode.arg.n if opcode.arg else 0
    for opcode in pickletools.opcodes
}
# References to code.
_TWO_LINES = (b"c", b"i")
# A run of opcodes whose arguments have a fixed number of bytes, as in a list of floats.
_FIXED_RUN = re.compile(
    b"(?s)(?:%s)*+"
    % b"|".join(
        re.escape(code) + b".{%d}" % n_bytes
        for code, n_bytes in _N_BYTES.items()
        if n_bytes >= 0 and code not in (_LONG_BINPUT, _STOP)
    )
)
# How many bytes hold the length of an argument, by the number that pickletools gives its kind.
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


def has_sparse_memo(content: bytes) -> bool:
    """Whether an index of the memo is greater than the size of the pickle; no pickler writes that.

    A damaged pickle is scanned up to its first invalid opcode, where an unpickler stops too.
    """
    return any(index > len(content) for index in _memo_indices(content))


def _memo_indices(content: bytes) -> Iterator[int]:
    position = 0
    # A damaged length may lead far beyond the end.
    while position < len(content):
        position = _FIXED_RUN.match(content, position).end()  # type: ignore[union-attr]  # never None
        code, position = content[position : position + 1], position + 1
        if code == _LONG_BINPUT:
            yield int.from_bytes(content[position : position + 4], "little")
            position += 4
        elif n := _LENGTH_BYTES.get(_N_BYTES.get(code, 0)):
            position += n + int.from_bytes(content[position : position + n], "little")
        elif _N_BYTES.get(code) == pickletools.UP_TO_NEWLINE:
            start = position
            for _ in range(2 if code in _TWO_LINES else 1):
                position = content.find(b"\n", position) + 1 or len(content)
            if code == _PUT:
                with suppress(ValueError):
                    yield int(content[start:position])
        else:
            return
