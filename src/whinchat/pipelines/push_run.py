"""Push a finished run to the Hugging Face hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whinchat.errors import BadResultError
from whinchat.hub.client import RepositoryFile, connect_to_hub, require_repo_id, upload_files
from whinchat.hub.repository import repository_of_run
from whinchat.report.bad_result import bad_result_warnings
from whinchat.report.question_notes import question_warnings
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord


@dataclass(frozen=True)
class PushResult:
    """The outcome of a push.

    Attributes:
        url: address of the repository; None after a dry run.
        files: the uploaded files; after a dry run, the files that a push would upload.
        quoted_texts: how many texts of the data set these files quote.
        warnings: what makes the result of the run bad; see ``bad_result_warnings``.
    """

    url: str | None
    files: tuple[RepositoryFile, ...]
    quoted_texts: int
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(file.size for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        files = [{"path": file.path, "bytes": file.size} for file in self.files]
        return {
            "url": self.url, "bytes": self.size, "quoted_texts": self.quoted_texts, "warnings": list(self.warnings),
            "files": files,
        }  # fmt: skip


def push_run(
    run: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    base_model: str | None = None,
    dry_run: bool = False,
    accept_bad_result: bool = False,
    token: str | None = None,
) -> PushResult:
    """Upload a finished run to a model repository on the hub, in one commit.

    The repository holds the adapter, the model card, the figures, the report and the stored results; the adapter lies
    at the root, where PEFT, ``Classifier.from_pretrained`` and ``whinchat predict`` find it. The evaluated texts
    (``predictions.parquet``) and the names of local folders are not uploaded. Card and report quote a few texts.

    Args:
        run: the run folder.
        repo_id: OWNER/NAME; created if it does not exist.
        private: visibility of a new repository; None takes the owner's default. An existing repository keeps its own.
        base_model: hub id of the base model; needed if the run loaded it from a local folder.
        dry_run: collect the files, but send no request to the hub.
        accept_bad_result: push a run whose result is bad; see ``bad_result_warnings``.
        token: an access token; by default the one that ``hf auth login`` or HF_TOKEN has set.

    Raises:
        RunError: ``run`` is not a finished run.
        BadResultError: the result of the run is bad, and ``accept_bad_result`` is false.
        HubError: the repository name is not valid, there is no token, the base model is not on the hub, a figure is
            missing, the repository is public although ``private`` is true, or the hub refuses the upload or cannot be
            reached. Nothing is uploaded then.
    """
    path = Path(run)
    require_repo_id(repo_id)
    record = RunFolder(path).read_record()
    warnings = bad_result_warnings(record) if isinstance(record, RunRecord) else question_warnings(record)
    if warnings and not (accept_bad_result or dry_run):
        raise BadResultError(f"{path}: the result is bad: {' '.join(warnings)} To push it anyway, add --yes")
    api = None if dry_run else connect_to_hub(repo_id, token)
    repository = repository_of_run(path, repo_id, base_model)
    url = None
    if api is not None:
        url = upload_files(api, repo_id, repository.files, f"whinchat push of {path.resolve().name}", private)
    return PushResult(url, repository.files, repository.quoted_texts, warnings)
