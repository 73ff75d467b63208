"""What the estimators of whinchat share: texts as input, saving, pickling and seeds."""

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from whinchat.evaluation.calibration_file import CALIBRATION_FILE
from whinchat.output_files import sweep_drafts, writing
from whinchat.storage.folder_update import update_folder
from whinchat.storage.locking import lock_folder


class TextEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Base of the estimators, which keep the content of their files in ``_files`` and the model in ``_predictor``."""

    random_state: int | np.random.RandomState | None
    _files: dict[str, bytes]

    def _saved_files(self) -> dict[str, bytes]:
        """Return the content of the files of ``save_pretrained``, by their names."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter, tokenizer, recipe and calibration to ``folder``.

        ``from_pretrained`` reads the folder, and so does every command of whinchat that takes a run. An earlier
        classifier there is replaced as a whole.

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
                if CALIBRATION_FILE not in files:
                    (target / CALIBRATION_FILE).unlink(missing_ok=True)

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
