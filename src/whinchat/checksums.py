"""The checksums of a classifier's files, by which a lost, damaged or foreign file is found at loading.

``checksums.json`` in the classifier's folder holds the SHA-256 of each file. A folder of version 0.1 has no such file.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from whinchat.errors import RunError
from whinchat.output_files import replace_file

CHECKSUMS_FILE = "checksums.json"
# Its users edit the recipe, and a push names the base model in both; each is read with checks of its own.
_EDITED = {"recipe.yaml", "adapter_config.json"}
_REMEDY = "restore the folder from a copy, or train the classifier again"


def write_checksums(folder: Path) -> None:
    """Write the checksum of each file of the adapter or merged model in ``folder``.

    Of a merged model, the weights are left out: gigabytes, which would be read twice at each load.
    """
    left_out = _EDITED | {CHECKSUMS_FILE}
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith((".", "model")))
    _write(folder, {file.name: file_sha256(file) for file in files if file.name not in left_out})


def replace_checked_files(folder: Path, files: Mapping[str, bytes], classifier: Path | None = None) -> None:
    """Write ``files`` to ``folder``, and their checksums if there are checksums.

    Args:
        folder: the folder to write to.
        files: name -> content of each file.
        classifier: the folder with the other files of the classifier and their checksums; None for ``folder``.
    """
    # The checksums come first: a kill in between leaves a file that is refused, not one that nothing vouches for.
    if (known := _read(classifier or folder)) is not None:
        _write(folder, {**known, **{name: hashlib.sha256(data).hexdigest() for name, data in files.items()}})
    for name, data in files.items():
        replace_file(folder / name, partial(Path.write_bytes, data=data))


def drop_checked_files(folder: Path, names: Collection[str]) -> None:
    """Remove files of the classifier in ``folder`` and their checksums; files that are not there are passed over."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if (known := _read(folder)) is not None:
        _write(folder, {name: digest for name, digest in known.items() if name not in names})


def check_files(
    folder: Path, remedies: Mapping[str, str], without: Collection[str] = (), only: Collection[str] | None = None
) -> None:
    """Check that each file with a checksum is in ``folder`` as it was saved; a folder without checksums passes.

    Args:
        folder: the folder of a classifier.
        remedies: file -> what to do if it is lost or damaged. These files must not be there without a checksum.
        without: names of files that are not checked.
        only: names of the files that are checked; None for all.

    Raises:
        RunError: a file is missing or was changed, or belongs to another classifier.
    """
    if (checksums := _read(folder)) is None:
        return
    checked = (remedies.keys() | checksums.keys() if only is None else set(only)) - set(without)
    for name in checked & (remedies.keys() - checksums.keys()):
        if (file := folder / name).is_file():
            raise RunError(f"{file}: does not belong to this classifier, which was saved without; {remedies[name]}")
    for name in checked & checksums.keys():
        file, remedy = folder / name, remedies.get(name, _REMEDY)
        if Path(name).name != name or not file.is_file():
            raise RunError(f"{file}: missing, and this classifier needs it; {remedy}")
        if file_sha256(file) != checksums[name]:
            raise RunError(f"{file}: damaged or replaced, for its checksum is not that of {CHECKSUMS_FILE}; {remedy}")


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, str] | None:
    file = folder / CHECKSUMS_FILE
    if not file.is_file():
        return None
    try:
        checksums = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{file}: not readable ({' '.join(str(error).split())}); {_REMEDY}") from None
    if not isinstance(checksums, dict) or not all(isinstance(checksum, str) for checksum in checksums.values()):
        raise RunError(f"{file}: not a list of checksums; {_REMEDY}")
    return checksums


def _write(folder: Path, checksums: dict[str, str]) -> None:
    content = json.dumps(dict(sorted(checksums.items())), indent=2) + "\n"
    replace_file(folder / CHECKSUMS_FILE, lambda draft: draft.write_text(content, encoding="utf-8"))
