"""A fitted classifier is pushed to a hub on this machine, and loaded from there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sklearn.exceptions import NotFittedError

from tests.helpers import finished_runs, tiny_models
from tests.helpers.hub_server import OWNER, TOKEN, Hub, Repository, in_this_process, serve
from whinchat import Classifier
from whinchat.data.learned_texts import LEARNED_TEXTS
from whinchat.errors import HubError
from whinchat.hub.client import connect_to_hub, upload_files
from whinchat.hub.repository import repository_of_run

REPO, BASE = f"{OWNER}/words", "models/tiny-llama"
TEXTS = list(tiny_models.toy_rows(12, seed=3)[0])


@pytest.fixture
def hub(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has the chat model."""
    with serve() as hub:
        in_this_process(hub, tmp_path, monkeypatch)
        hub.repositories[BASE] = model = Repository()
        model.add({file.name: file.read_bytes() for file in tiny_llama.iterdir()})
        yield hub


@pytest.fixture(scope="module")
def fitted(tiny_llama: Path) -> Classifier:
    texts, labels = tiny_models.toy_rows(80)
    settings = {"backbone.load_in": "float32", "backbone.device": "cpu", "adapter.r": 4}
    return Classifier(model=str(tiny_llama), learning_rate=1e-2, settings=settings).fit(texts, labels)


def test_there_and_back(hub: Hub, fitted: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert fitted.push_to_hub(REPO, private=True, token=TOKEN, base_model=BASE) == f"{hub.url}/{REPO}"
    repository = hub.repositories[REPO]
    assert repository.private is True
    assert LEARNED_TEXTS not in repository.files
    assert len(repository.commits) == 2
    assert not any(TOKEN.encode() in content for content in repository.files.values())
    assert not any(fitted.model.encode() in content for content in repository.files.values())
    config = json.loads(repository.files["adapter_config.json"])
    assert config["base_model_name_or_path"] == BASE
    card = ModelCard(repository.files["README.md"].decode())
    assert (card.data.base_model, card.data.pipeline_tag) == (BASE, "text-classification")
    assert card.data.eval_results is None
    assert "this card reports no metrics" in card.text
    assert f'base, adapter = "{BASE}", "{REPO}"' in card.text
    # Somebody who may see it.
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    again = Classifier.from_pretrained(REPO)
    np.testing.assert_allclose(again.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-6)
    assert again.predict(TEXTS).tolist() == fitted.predict(TEXTS).tolist()
    assert again.classes_.dtype.kind == "i"
    assert (again.model, again.validation_fraction) == (BASE, fitted.validation_fraction)
    assert again.settings == fitted.settings


def test_a_pushed_run_is_a_classifier(hub: Hub, tiny_llama: Path, tmp_path: Path) -> None:
    run = finished_runs.finished_run(tiny_llama)
    upload_files(connect_to_hub(REPO), REPO, repository_of_run(run, REPO, BASE).files, "a run")
    fetched = Classifier.from_pretrained(f"{REPO}@{hub.repositories[REPO].main}")
    expected = Classifier.from_pretrained(run)
    np.testing.assert_allclose(fetched.predict_proba(TEXTS), expected.predict_proba(TEXTS), atol=1e-6)
    # What tells of the run is not the classifier's, but for the hashes of its training texts, which are not published.
    fetched.save_pretrained(tmp_path / "saved")
    expected.save_pretrained(tmp_path / "expected")
    saved, local = ({file.name for file in (tmp_path / name).iterdir()} for name in ("saved", "expected"))
    assert local - saved == {LEARNED_TEXTS}
    assert saved < local


def test_what_cannot_be_pushed(hub: Hub, fitted: Classifier, tiny_llama: Path) -> None:
    with pytest.raises(NotFittedError):
        Classifier(model=str(tiny_llama)).push_to_hub(REPO)
    with pytest.raises(HubError, match=r"a local folder that nobody else has; .*\(base_model in Python\)"):
        fitted.push_to_hub(REPO)
    with pytest.raises(HubError, match="words: is not a repository name; write OWNER/NAME"):
        fitted.push_to_hub("words", base_model=BASE)
    assert set(hub.repositories) == {BASE}
