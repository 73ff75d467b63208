"""Export, then proof: what was written must answer as the classifier does, or it does not stay.

N: texts. K: labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from whinchat.data.sources import load_corpus
from whinchat.errors import DataError, ModelError, RunError
from whinchat.publish.folder import Found, find_classifier, write_json
from whinchat.publish.hub import fetch
from whinchat.use.export import TOLERANCE, Kind
from whinchat.use.labeller import Labeller
from whinchat.use.tables import open_table

Floats = NDArray[np.float64]

# Texts that the proof is made on, and further ones that an export may learn from.
PROOF_ROWS, MORE_ROWS = 500, 500


@dataclass(frozen=True)
class Proof:
    """How an export's answers lie beside the classifier's own.

    Attributes:
        kind: what was exported.
        texts: N that both answered.
        flipped: of these, with another label.
        largest_difference: of any two probabilities.
        tolerance: share of flipped labels up to which an export stays.
        not_carried: steps of ``task.clean`` that the export leaves to whoever uses it.
    """

    kind: Kind
    texts: int
    flipped: int
    largest_difference: float
    tolerance: float
    not_carried: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the export may stay."""
        return self.flipped <= self.tolerance * self.texts


def export(run: Path, kind: Kind, out: Path, *, data: Path | None = None, tolerance: float = TOLERANCE) -> Proof:
    """Write the classifier in ``run`` as ``kind`` into the new folder ``out``, with its proof beside it.

    Args:
        run: a run folder, an adapter's, or OWNER/NAME on the hub.
        kind: merged, one model without an adapter; classifier, for ``AutoModelForSequenceClassification``.
        out: where to; nothing is there before the proof holds.
        data: a table with texts to prove it on; the run's own validation split by default.
        tolerance: share of labels that may flip.

    Raises:
        RunError: something is at ``out``. DataError: no texts. ModelError: the proof does not hold, or this classifier
            cannot be had as ``kind``.
    """
    from whinchat.use.export.classifier import answers_of, require_single_tokens, write_classifier
    from whinchat.use.export.merged import merge, write_merged

    if out.exists():
        raise RunError(f"{out}: is there already; delete it, or choose another --out")
    run = fetch(run)
    found = find_classifier(run)
    texts = _texts(found, data)
    # Half of a few texts, so that the other half is left to learn from.
    count = min(PROOF_ROWS, (len(texts) + 1) // 2)
    proved, more = texts[:count], texts[count : count + MORE_ROWS]
    labeller = Labeller.load(run)
    if kind == "classifier":
        require_single_tokens(labeller.engine.template)
    scores = labeller.score(proved)
    expected = labeller.answer(scores)
    labels = [expected.label(at) for at in range(count)]
    shares = expected.probabilities if kind == "merged" else _decided(labeller, scores)
    model, backbone = merge(found)
    work = out.with_name(f".{out.name}.unproved")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        stored = labeller.engine.plan.torch_dtype
        if kind == "merged":
            write_merged(model.to(stored), backbone, found, work)
            labeller.calibrator.save(work)
            made = Labeller.load(work)
            answers = made.answer(made.score(proved))
            said, given = [answers.label(at) for at in range(count)], answers.probabilities
        else:
            write_classifier(
                model, backbone, labeller.engine.template, labeller.calibrator, more or proved, work, stored
            )
            said, given = answers_of(work, proved)
        flipped = sum(one != other for one, other in zip(labels, said, strict=True))
        steps = found.recipe.task.clean if kind == "classifier" else ()
        left = tuple(step for step in steps if step != "spaces")
        proof = Proof(kind, count, flipped, float(np.abs(shares - given).max()), tolerance, left)
        if not proof.holds:
            raise ModelError(
                f"{out}: not exported: {flipped} of {count} labels differ from the classifier's own, more than the "
                f"tolerance of {tolerance:.1%}; raise --tolerance if you can live with that"
            )
        write_json(work / "proof.json", asdict(proof))
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return proof


def _texts(found: Found, data: Path | None) -> Sequence[str]:
    """Of the table ``data``, or of the run's validation split."""
    if data is not None:
        table = open_table(data, found.recipe.data.text_column)
        block = table.read(next(table.places(PROOF_ROWS + MORE_ROWS, lambda _: None)))
        texts: Sequence[str] = [text for text, fault in zip(block.texts, block.faults, strict=True) if not fault]
    else:
        try:
            corpus = load_corpus(found.recipe)
        except DataError as fault:
            raise DataError(f"{fault}; or name a table of texts to prove the export on with --data") from None
        texts = (corpus.validation or corpus.train).texts
    if not texts:
        raise DataError(f"{data}: holds no texts to prove the export on")
    return texts


def _decided(labeller: Labeller, scores: Any) -> Floats:
    """Shares whose largest is the label answered with, (N, K): what one softmax can say of a decision."""
    shares: Floats = softmax(labeller.calibrator.weighed(scores), axis=1)
    return shares
