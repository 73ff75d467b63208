"""Measure TF-IDF with logistic regression on each question of the tickets, on the rows that the recipe takes.

    python examples/tickets/baseline.py

Prints macro-F1 on the test rows, one line for each question and for each option of tags.
"""

from __future__ import annotations

from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from whinchat.data.sources import load_corpus
from whinchat.recipe.loader import load_recipe


def main() -> None:
    """Print one line for each decision of the recipe beside this file."""
    recipe = load_recipe(str(Path(__file__).with_name("recipe.yaml")))
    corpus = load_corpus(recipe)
    for index, decision in enumerate(recipe.task.decisions):
        train, test = corpus.train.of_decision(index), corpus.split("test").of_decision(index)
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(train.texts, train.labels)
        found = f1_score(test.labels, model.predict(test.texts), average="macro")
        print(f"{decision.title}: macro-F1 {found:.3f} on {len(test)} rows")


if __name__ == "__main__":
    main()
