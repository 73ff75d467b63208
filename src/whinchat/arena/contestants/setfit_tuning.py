"""SetFit: an encoder that is fine-tuned on pairs of texts, and logistic regression on its embeddings.

N: texts. H: width of the encoder. K: labels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from setfit import SetFitModel, Trainer, TrainingArguments

from whinchat.arena.contestants.embeddings import Embeddings
from whinchat.data.dataset import Split
from whinchat.errors import ModelError
from whinchat.models.config_checks import CONFIG_FAULTS, first_line
from whinchat.models.device import detect_machine
from whinchat.models.encoders import TOKENIZER_SIDES
from whinchat.output_files import temporary_folder

_LEARNING_RATE = 2e-5
# Positive pairs for each row, and as many negative ones: R in section 3 of the paper.
_PAIRS_OF_A_ROW = 20
_EMBED_BATCH = 64


class SetFitTuning(Embeddings):
    """Trains as the library setfit does, on a bounded number of pairs.

    One epoch of contrastive fine-tuning brings texts with the same label together and moves other texts apart. Then
    scikit-learn's logistic regression is fitted to the embeddings of all training rows, with C = 1 as in the library:
    cross-validation would choose C on embeddings that know the labels of the rows.

    Source: SetFit, section 3 (arXiv:2209.11055). R is the paper's, the other settings are the library's defaults.
    """

    family = "trained"
    grid = ()

    def load(self) -> None:
        """Fetch the encoder; ``fit`` loads its weights, anew for each decision.

        Raises:
            ModelError: the recipe names another device than the best one, or as ``open_encoder`` and ``read_pooling``
                raise it.
        """
        if self.device != (best := detect_machine().best_device):
            raise ModelError(
                f"backbone.device: setfit trains on this machine's {best} and cannot be told to train on "
                f"{self.device}; hide the accelerator, for instance with CUDA_VISIBLE_DEVICES=, or leave the method out"
            )
        self.open()

    def fit(self, train: Split) -> int:
        """Fine-tune the encoder on pairs where there are two labels, and fit the regression.

        Raises:
            ModelError: there are too few pairs for the labels, or the encoder cannot be loaded.
        """
        labels = len(set(train.labels))
        if self.options.max_pairs < (least := 2 * labels):
            raise ModelError(f"encoder.max_pairs: {self.options.max_pairs} pairs lack some labels; set {least} or more")
        self._body = self._load_body()
        if labels > 1:
            self._train_body(train)
        return super().fit(train)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of the cleaned texts, (N, H)."""
        embedded: NDArray[np.float32] = self._body.encode(
            self.clean(texts), batch_size=_EMBED_BATCH, show_progress_bar=False
        )
        return embedded

    def parameters(self) -> tuple[int, int]:
        """Return the number of parameters of encoder and regression, all of which are trained."""
        total, _ = super().parameters()
        return total, total

    def _load_body(self) -> Any:
        """Return the encoder as sentence-transformers has it, with the pooling of its own settings."""
        refused = {"trust_remote_code": False}
        try:
            encoder = Transformer(
                str(self._folder.path),
                # Half-precision weights would be trained as they are, and take in hardly any of the small updates.
                model_kwargs={"use_safetensors": True, "dtype": torch.float32, **refused},
                config_kwargs=refused,
                processor_kwargs={**TOKENIZER_SIDES, **refused},
                max_seq_length=self._folder.max_length,
            )
        except CONFIG_FAULTS as error:
            raise ModelError(f"{self._folder.name}: cannot be loaded: {first_line(error)}") from error
        pooling = Pooling(encoder.get_embedding_dimension(), self._pooling)
        return SentenceTransformer(modules=[encoder, pooling, Normalize()], device=self.device)

    def _train_body(self, train: Split) -> None:
        chosen, pairs_of_a_row = pair_plan(train.labels, self.options.max_pairs, self.recipe.train.seed)
        texts, pairs = self.clean([train.texts[row] for row in chosen]), 2 * pairs_of_a_row * len(chosen)
        batch_size = self.options.per_device_train_batch_size
        with temporary_folder() as folder:
            arguments = TrainingArguments(
                output_dir=str(folder),
                batch_size=batch_size,
                num_epochs=1,
                # One epoch; the library also stops collecting pairs here.
                max_steps=math.ceil(pairs / batch_size),
                num_iterations=pairs_of_a_row,
                body_learning_rate=float(self.options.learning_rate or _LEARNING_RATE),
                seed=self.recipe.train.seed,
                save_strategy="no",
                report_to="none",
                show_progress_bar=False,
            )
            trainer = Trainer(model=SetFitModel(model_body=self._body), args=arguments)
            # With more, the batches would be larger.
            trainer.st_trainer.args._n_gpu = min(trainer.st_trainer.args.n_gpu, 1)
            trainer.train_embeddings(texts, [train.labels[row] for row in chosen])
        self.notes["pairs"] = f"{pairs:,} of {len(chosen):,} rows"
        self.notes["steps"] = str(trainer.st_trainer.state.global_step)


def pair_plan(labels: Sequence[int], max_pairs: int, seed: int) -> tuple[list[int], int]:
    """Return the rows that pairs are drawn from, and how many positive pairs each row gets, and negative ones.

    setfit lists all pairs of the rows that it is given, so many rows would not fit into memory.

    Args:
        labels: label index of each training row.
        max_pairs: largest number of pairs.
        seed: draws the rows where there are too many; each label keeps a row.
    """
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    one_of_each = {labels[row]: row for row in order}
    chosen = sorted(list(dict.fromkeys([*one_of_each.values(), *order]))[: max_pairs // 2])
    return chosen, min(_PAIRS_OF_A_ROW, max_pairs // (2 * len(chosen)))
