"""Draw the figures of ``docs/explanation/``; needs no network once the demo's model is in whinchat's cache.

python docs/figures/draw.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, f1_score, recall_score

from whinchat.evaluation.calibration import fit_calibrator
from whinchat.models.backbone import load_backbone
from whinchat.models.forward import Engine, answer_logits
from whinchat.models.packed.batch import pack
from whinchat.prompts.answer_tree import answer_tree
from whinchat.prompts.batching import collate
from whinchat.recipe.loader import load_recipe
from whinchat.recipe.schema import EvaluateConfig
from whinchat.report.figures.style import LIGHT

FOLDER = Path(__file__).parent
RECIPE = FOLDER.parents[1] / "examples" / "five-labels" / "recipe.yaml"
TEXT = "best day of my life"
PREFIX, NODES, PADDING = "#6fa8d2", LIGHT.accent, "#eef1f5"


def draw_scoring(target: Path) -> None:
    """Draw the answer tree of five labels with the log-probabilities that the untrained model gives them."""
    recipe = load_recipe(str(RECIPE))
    backbone = load_backbone(recipe.backbone)
    template = backbone.tokenizer.template(recipe)
    engine = Engine.build(backbone.model, backbone.plan, template)
    tree = engine.tree
    batch = collate([template.encode([TEXT])[0].ids], [tree.tokens])
    with torch.inference_mode():
        log_p = answer_logits(engine.model, engine.plan, batch, tree)[0].log_softmax(dim=-1)  # (1 + N, V)
    words = [template.tokenizer.decode([token]) for token in tree.tokens]
    totals = np.array([sum(float(log_p[place, token]) for place, token in path) for path in tree.paths])
    shares = np.exp(log_softmax(totals))

    figure, axes = plt.subplots(figsize=(8.6, 3.6))
    leaf_x, node_x, root_x = 4.7, 2.4, 0.3
    # Answers that go through a node stand together, below those that end at once.
    order = sorted(range(len(tree.paths)), key=lambda label: len(tree.paths[label]))
    heights = {label: 4.0 - row for row, label in enumerate(order)}
    node_y = [
        float(np.mean([heights[label] for label, path in enumerate(tree.paths) if (at + 1) in dict(path)]))
        for at in range(len(tree.tokens))
    ]
    root_y = 2.0

    def position(place: int) -> tuple[float, float]:
        return (root_x, root_y) if place == 0 else (node_x, node_y[place - 1])

    for at, parent in enumerate(tree.parents):
        _edge(axes, position(parent + 1), position(at + 1), words[at], float(log_p[parent + 1, tree.tokens[at]]))
    for label, path in enumerate(tree.paths):
        place, token = path[-1]
        end = (leaf_x, heights[label])
        _edge(axes, position(place), end, template.tokenizer.decode([token]), float(log_p[place, token]))
        axes.text(leaf_x + 0.15, end[1], recipe.task.labels[label], va="center", fontsize=10, fontweight="bold")
        axes.text(7.3, end[1], f"{totals[label]:.2f}", va="center", ha="right", fontsize=10)
        axes.text(8.6, end[1], f"{shares[label]:.3f}", va="center", ha="right", fontsize=10)
    for place in range(1 + len(tree.tokens)):
        axes.plot(*position(place), "o", markersize=11, color=LIGHT.after if place == 0 else NODES, zorder=3)
    axes.text(root_x, root_y - 0.42, "end of\nprompt", ha="center", va="top", fontsize=9, color=LIGHT.muted)
    axes.text(7.3, 4.55, "log P(answer)", ha="right", fontsize=9, color=LIGHT.muted)
    axes.text(8.6, 4.55, "among labels", ha="right", fontsize=9, color=LIGHT.muted)
    axes.set(xlim=(-0.1, 8.7), ylim=(-0.4, 4.9))
    axes.axis("off")
    _save(figure, target)


def _edge(axes: Axes, start: tuple[float, float], end: tuple[float, float], word: str, log_p: float) -> None:
    """Draw one token: from the place where its logit is read to the place after it."""
    axes.plot([start[0], end[0]], [start[1], end[1]], color=LIGHT.before, linewidth=1.4, zorder=1)
    share = 0.56
    middle = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
    axes.text(
        *middle, f"“{word.strip()}” {log_p:.2f}", ha="center", va="center", fontsize=8.5, zorder=2,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
    )  # fmt: skip


def draw_calibration(target: Path) -> None:
    """Draw what the temperature and favouring rare labels do to simulated scores of an overconfident classifier."""
    random = np.random.default_rng(0)
    labels, shares, rows = ("negative", "neutral", "positive"), (0.15, 0.45, 0.40), 40_000
    expected = random.choice(3, rows, p=shares)
    # Scores of a classifier that knows the shares, multiplied by 2.2 as by a few epochs too many.
    evidence = 1.5 * np.eye(3)[expected] + random.normal(0, 1.1, (rows, 3)) + np.log(shares)
    scores = log_softmax(2.2 * evidence, axis=1)
    fitted, measured = slice(0, rows // 2), slice(rows // 2, rows)
    truth = expected[measured]
    calibrator = fit_calibrator(scores[fitted], expected[fitted], labels, EvaluateConfig(metric="macro_f1"))
    plain = np.exp(scores[measured])
    calibrated = replace(calibrator, tau=0.0).probabilities(scores[measured])

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.9))
    left.plot([0.3, 1], [0.3, 1], color=LIGHT.line, linewidth=2, zorder=1)
    for name, probabilities, colour, face in (
        ("plain", plain, LIGHT.before, "white"),
        (f"temperature {calibrator.temperature:.1f}", calibrated, LIGHT.after, LIGHT.after),
    ):
        confidence, right_answers = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        bins = np.clip(((confidence - 0.3) / 0.1).astype(int), 0, 6)
        kept = [number for number in range(7) if (bins == number).sum() >= 100]
        x = [confidence[bins == number].mean() for number in kept]
        y = [right_answers[bins == number].mean() for number in kept]
        left.plot(x, y, "o-", color=colour, markerfacecolor=face, label=name, zorder=2)
    left.set(xlabel="confidence", ylabel="accuracy", xlim=(0.3, 1.02), ylim=(0.3, 1.02))
    left.set_title("Reliability of the probabilities", loc="left", fontsize=11, fontweight="bold")
    left.legend(frameon=False, loc="lower right")

    taus = np.linspace(0, 1, 41)
    answers = [replace(calibrator, tau=tau).probabilities(scores[measured]).argmax(axis=1) for tau in taus.tolist()]
    for name, named, rise, values, colour in (
        ("accuracy", 18, 8, [accuracy_score(truth, answer) for answer in answers], LIGHT.before),
        ("macro-F1", 33, 8, [f1_score(truth, answer, average="macro") for answer in answers], LIGHT.after),
        ("macro-recall", 29, -17, [recall_score(truth, answer, average="macro") for answer in answers], LIGHT.accent),
    ):
        right.plot(taus, values, color=colour, linewidth=2)
        right.annotate(
            name, (taus[named], values[named]), (0, rise), textcoords="offset points", color=colour, fontsize=9.5
        )
    right.axvline(calibrator.tau, color=LIGHT.line, linewidth=2, zorder=0)
    bottom, top = right.get_ylim()
    right.text(
        calibrator.tau, bottom + 0.02 * (top - bottom), " chosen for\n macro-F1", fontsize=8.5, color=LIGHT.muted
    )
    right.set(xlabel="power τ of the label shares", xlim=(0, 1))
    right.set_title("Metrics if rare labels are favoured", loc="left", fontsize=11, fontweight="bold")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    _save(figure, target)


def draw_packed_pass(target: Path) -> None:
    """Draw the tokens that a padded batch computes beside those of the packed line."""
    shared, rests = 14, (9, 4, 6, 3)
    tree = answer_tree([(1, 2), (1, 3), (4,)], end_of_turn=0)
    nodes = len(tree.tokens)
    prompts = [
        (*range(100, 100 + shared), *range(200 + 20 * row, 200 + 20 * row + size)) for row, size in enumerate(rests)
    ]
    line = pack(collate(prompts, [tree.tokens] * len(prompts)), tree)
    width = shared + max(rests) + nodes

    figure, axes = plt.subplots(figsize=(8.6, 3.7))
    for row, size in enumerate(rests):
        y = 6.2 - row
        _cells(axes, 0, y, shared, PREFIX)
        _cells(axes, shared, y, size, LIGHT.after)
        _cells(axes, shared + size, y, nodes, NODES)
        _cells(axes, shared + size + nodes, y, width - shared - size - nodes, PADDING)
        axes.text(-0.5, y + 0.4, f"text {row + 1}", ha="right", va="center", fontsize=9, color=LIGHT.muted)
    axes.text(0, 7.35, f"Padded batch: {width * len(rests)} tokens", fontsize=11, fontweight="bold")
    at = 0
    for size, colour in [(shared, PREFIX), *[pair for rest in rests for pair in ((rest, LIGHT.after), (nodes, NODES))]]:
        _cells(axes, at, 0.9, size, colour)
        at += size
    axes.text(0, 2.05, f"Packed line: {len(line.tokens)} tokens", fontsize=11, fontweight="bold")
    legend = (("shared prefix", PREFIX), ("text", LIGHT.after), ("answer node", NODES), ("padding", PADDING))
    for number, (name, colour) in enumerate(legend):
        _cells(axes, 9 * number, -0.75, 1, colour)
        axes.text(9 * number + 1.4, -0.35, name, va="center", fontsize=9, color=LIGHT.muted)
    axes.set(xlim=(-4, 42), ylim=(-0.9, 8.1))
    axes.axis("off")
    _save(figure, target)


def _cells(axes: Axes, x: float, y: float, count: int, colour: str) -> None:
    for cell in range(count):
        axes.add_patch(Rectangle((x + cell + 0.06, y), 0.88, 0.8, facecolor=colour, edgecolor="none"))


def _save(figure: plt.Figure, target: Path) -> None:
    figure.savefig(target, dpi=160, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw_scoring(FOLDER / "scoring.png")
    draw_calibration(FOLDER / "calibration.png")
    draw_packed_pass(FOLDER / "packed-pass.png")
