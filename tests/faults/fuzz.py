"""Fuzzes the reader of one input, guided by the branches of genebench that are reached.

    cd tests && python -m faults.fuzz "vectors npz" FOLDER --seconds 60

needs atheris. The shortest bytes of each finding are kept in FOLDER/findings, beside what happened;
FOLDER/corpus keeps the bytes that reached something new. libFuzzer prints the number of runs, and
exits with an error if the process crashes or one reading never ends.
"""

import argparse
import hashlib
import json
import sys
import traceback
from pathlib import Path

import atheris

OWN = ("genebench", "lakehouse")

with atheris.instrument_imports(include=list(OWN)):
    from faults.inputs import Verdict, find_input, judge

# Words of a format that no edit of single bytes makes, by the ending of the file's name.
WORDS = {
    ".yaml": [
        "!!int ",
        "!!timestamp ",
        "!!binary ",
        "2024-99-99",
        "? ",
        "<<: ",
        "&a [",
        "*a",
        ".nan",
    ],
    ".json": ["\\ud800", "1e999", "null", "[[", "{}", "[]", "-0", "NaN", '"":'],
    ".jsonl": ["\\ud800", "1e999", "null", "[[", "{}", "[]", "NaN"],
    ".csv": ["nan", "1e30", '""', ",,", "inf", "-1", "[]"],
    ".sql": ["select ", " from ", "with ", " over (", " join ", "group by ", "null", "'", "cast("],
    ".html": ['href="', "//[", "http://", "part-"],
}

# After how many seconds one reading is said never to end.
TIMEOUT_SECONDS = 300


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzz the reader of an input, and exit."""
    for part in ("files", "corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    # Modules that a reader imports only when it reads are instrumented too.
    with atheris.instrument_imports(include=list(OWN)):
        content, read, suffix = find_input(name, folder / "files")
        path = folder / "files" / f"fuzzed{suffix}"
        path.write_bytes(content)
        read(path)
    (folder / "corpus" / "valid").write_bytes(content)

    def read_one(mutated: bytes) -> None:
        path.write_bytes(mutated)
        verdict = judge(read, path)
        if str(verdict):
            keep_finding(folder / "findings", mutated, verdict)

    options = {
        "max_total_time": seconds,
        "max_len": 2 * len(content) + 4096,
        "timeout": TIMEOUT_SECONDS,
        # The verdict tells of memory.
        "rss_limit_mb": 0,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder / 'findings'}/",
    }
    if suffix in WORDS:
        options["dict"] = folder / "words"
        options["dict"].write_text("\n".join(map(json.dumps, WORDS[suffix])))
    given = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *given, str(folder / "corpus")], read_one)
    atheris.Fuzz()


def keep_finding(folder: Path, content: bytes, verdict: Verdict) -> None:
    """Keep the shortest bytes with this finding."""
    key = hashlib.sha256(place_of(verdict).encode()).hexdigest()[:12]
    path = folder / f"{key}.bin"
    if not path.exists() or path.stat().st_size > len(content):
        path.write_bytes(content)
        told = {
            "what": f"{verdict} ({place_of(verdict)})",
            "is_untyped": verdict.error is not None,
            "n_programs": len(verdict.programs),
            "n_written": len(verdict.written),
        }
        (folder / f"{key}.json").write_text(json.dumps(told))


def place_of(verdict: Verdict) -> str:
    """Where a finding comes from: the last line of our own that was running, and what happened."""
    if verdict.error is None:
        return "programs" if verdict.programs else "files" if verdict.written else "memory"
    frames = traceback.extract_tb(verdict.error.__traceback__)
    ours = [one for one in frames if any(f"/{package}/" in one.filename for package in OWN)]
    last = (ours or frames)[-1]
    return f"{type(verdict.error).__name__} at {Path(last.filename).name}:{last.lineno}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="an input of faults/inputs.py")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    fuzz(arguments.name, arguments.folder.resolve(), arguments.seconds)
