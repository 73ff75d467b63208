"""What the estimators of whinchat share: texts as input, saving, pickling and seeds."""

from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from whinchat.data.learned_texts import LEARNED_TEXTS, write_learned
from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.evaluation.cascade_results import CASCADE_FILES
from whinchat.output_files import sweep_drafts, temporary_folder, writing
from whinchat.storage.folder_update import update_folder
from whinchat.storage.locate import model_files
from whinchat.storage.locking import lock_folder

T = TypeVar("T")


class TextEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Base of the estimators, which keep the content of their files in ``_files`` and the model in ``_predictor``.

    ``_learned`` has the hashes of the texts that the model has learned, sorted so that equal estimators have equal
    pickles; None where they are not known.
    """

    random_state: int | np.random.RandomState | None
    _files: dict[str, bytes]
    _learned: Sequence[str] | None = None
    _predictor: Any

    def _saved_files(self) -> dict[str, bytes]:
        """Return the content of the files of ``save_pretrained``, by their names."""
        raise NotImplementedError

    def _keep_files(self, adapter: Path, learned: Set[str] | None) -> None:
        """Keep the content of a classifier's files, so that a copy or a pickle of the estimator needs no folder."""
        self._files = {file.name: file.read_bytes() for file in model_files(adapter)}
        self._learned = None if learned is None else sorted(learned)

    def _loaded(self, load: Callable[[Path], T]) -> T:
        """Return the model in memory, which ``load`` loads from a folder of the saved files where it is not there."""
        if not hasattr(self, "_predictor"):
            with temporary_folder() as folder:
                self.save_pretrained(folder)
                self._predictor = load(folder)
        predictor: T = self._predictor
        return predictor

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer, recipe, calibration and hashes of the training texts to ``folder``.

        ``from_pretrained`` reads the folder, and so does every command of whinchat that takes a run. An earlier
        classifier there is replaced as a whole. By the hashes, measurements on the training texts are noticed; they
        tell whoever has a text that the model learned it, so delete ``learned_texts.hashes`` where you give the folder
        away. A pickle of the estimator holds them, too.

        Raises:
            OutputError: the folder cannot be written.
            RunError: another process writes into the folder.
        """
        target = Path(folder)
        files = self._saved_files()
        with lock_folder(target):
            sweep_drafts(target)
            with update_folder(target) as changed, writing(target):
                for name, content in files.items():
                    (changed / name).write_bytes(content)
                if self._learned is not None:
                    write_learned(changed, self._learned)
                stale = {CALIBRATION_FILE, LEARNED_TEXTS, *CASCADE_FILES} - {file.name for file in changed.iterdir()}
                for name in stale:
                    (target / name).unlink(missing_ok=True)

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the classifier was fitted or loaded."""
        return hasattr(self, "_files")

    def __sklearn_tags__(self) -> Any:
        """Declare that X holds texts, not a table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model in memory, which is loaded again at the next prediction."""
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_predictor"}

    def _seed(self) -> int:
        if isinstance(self.random_state, np.random.RandomState) or self.random_state is None:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        return self.random_state  # the recipe checks what it is
