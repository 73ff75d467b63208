"""A text that the chat template refuses costs its own row, and no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import finished_runs, tiny_models
from tests.helpers.command_line import Whinchat
from tests.helpers.served import LIMITS, client_of
from whinchat.errors import PromptError
from whinchat.inference.predict_file import predict_file
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.run import train_run
from whinchat.prompts.template import PromptTemplate
from whinchat.server.app import create_app
from whinchat.server.served_models import ModelHost

# Refuses some texts, as templates do that check contents, and fails with an error of Python's on others.
PICKY = tiny_models.CHATML.replace(
    "{% for message in messages %}",
    "{% for message in messages %}"
    "{% if 'forbidden' in message['content'] %}{{ raise_exception('This is not allowed') }}{% endif %}"
    "{% if 'zero' in message['content'] %}{{ 1 // 0 }}{% endif %}"
    "{% if not message['content'] %}{{ raise_exception('Empty message') }}{% endif %}",
)
BAD = ("a forbidden word", "zero", "")


@pytest.fixture(scope="module")
def picky_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picky")
    model = tiny_models.make_mistral(folder / "model", template=PICKY)
    recipe = finished_runs.recipe_for(model, finished_runs.write_csv(folder / "texts.csv"), train={"max_steps": 2})
    train_run(recipe, folder / "run")
    # The run itself has no evaluation, so only its adapter may answer.
    return folder / "run" / "adapter"


def test_each_row_of_a_table_gets_its_error(picky_run: Path, tmp_path: Path) -> None:
    texts = ["a day", BAD[0], "the sun", BAD[1], "tea"]
    source = tmp_path / "in.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    counts = predict_file(picky_run, source, tmp_path / "out.csv")
    assert next(iter(counts.values())).bad == 2
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    assert [bool(row["label"]) for row in rows] == [True, False, True, False, True]
    assert "This is not allowed" in rows[1]["error"]
    assert "division" in rows[3]["error"] or "modulo" in rows[3]["error"]
    predictor = Predictor.load(picky_run)
    expected = predictor.predict([text for text in texts if text not in BAD], deterministic=True)
    assert [row["label"] for row in rows if row["label"]] == expected.label_names


def test_texts_on_the_command_line(picky_run: Path, whinchat: Whinchat) -> None:
    done = whinchat("predict", picky_run, "a day", BAD[0], "tea", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["text"] for line in lines] == ["a day", BAD[0], "tea"]
    assert ["label" in line for line in lines] == [True, False, True]
    assert "This is not allowed" in lines[1]["error"]
    shown = whinchat("predict", picky_run, "a day", BAD[0])
    assert "This is not allowed" in " ".join(shown.out.replace("│", " ").split())
    alone = whinchat("predict", picky_run, BAD[0])
    assert alone.code == 2
    assert "This is not allowed" in alone.err


def test_the_server_names_the_text(picky_run: Path) -> None:
    host = ModelHost.load({"picky": picky_run})
    with client_of(create_app(host.models, host.predict, LIMITS, batch_size=8)) as client:
        answer = client.post("/v1/classify", json={"texts": ["a day", BAD[0]]})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("texts[1]: ")
        assert client.post("/v1/classify", json={"texts": ["a day"]}).status_code == 200
        table = client.post("/v1/table?name=in.csv", content=f"text\na day\n{BAD[0]}\ntea\n".encode())
        events = [json.loads(line) for line in table.text.splitlines()]
        assert (events[-1]["done"], events[-1]["bad"]) == (3, 1)


def test_training_and_estimator_name_the_row(picky_run: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(picky_run)
    with pytest.raises(PromptError, match=r"text 1 \('zero'\): there is no prompt for it: .*leave this text out"):
        predictor.predict(["a day", "zero"])
    source = finished_runs.write_csv(tmp_path / "texts.csv")
    with source.open("a", encoding="utf-8") as file:
        file.write("so forbidden,good\n")
    recipe = finished_runs.recipe_for(Path(predictor.recipe.backbone.model), source)
    with pytest.raises(PromptError, match=r"row \d+ of (train|validation) \('so forbidden'\).*This is not allowed"):
        train_run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "found before anything is written"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('Never') }}", "its chat template refuses the chat: Never"),
        ("{% for m in messages %}", "its chat template is not valid"),
        ("{{ messages[9].content }}", "refuses the chat"),
        ("{{ messages + 1 }}", "refuses the chat"),
    ],
)
def test_a_template_that_takes_no_chat_is_one_clear_error(tmp_path: Path, template: str, message: str) -> None:
    tokenizer: Any = tiny_models.bpe_tokenizer(("<s>", "</s>"), bos="<s>", eos="</s>", template=template)
    with pytest.raises(PromptError, match=message):
        PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=200, model="m")


def test_half_of_a_surrogate_pair_has_no_prompt(tiny_mistral: Path) -> None:
    template = tiny_models.template_of(tiny_models.load(tiny_mistral))
    text = "an emoji cut in two \ud83d"
    assert template.fault(text) == (
        "it holds half of a surrogate pair, which is no character (often an emoji cut in two)"
    )
    with pytest.raises(
        PromptError, match=r"text 1 \('an emoji cut in two \\ud83d'\): there is no prompt for it: it holds"
    ):
        template.encode(["fine", text])


def test_a_padding_token_of_one_character_is_ordinary_text(tiny_mistral: Path) -> None:
    tokenizer = tiny_models.load(tiny_mistral).tokenizer.tokenizer
    tokenizer.pad_token = "!"
    template = PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=200, model="m")
    assert tokenizer.pad_token_id in template.encode(["what a good day!"])[0].ids


def test_a_text_that_the_tokenizer_gives_up_on_is_named(tmp_path: Path) -> None:
    # A pattern that needs 2 ** n steps for n times "§", which the trial of a tokenizer does not draw.
    tokenizer: Any = tiny_models.bpe_tokenizer(
        ("<s>", "</s>"), bos="<s>", eos="</s>", template=PICKY, words=r"(§+)+$|\w+|\W"
    )
    template = PromptTemplate(tokenizer, tiny_models.tiny_task(), end_ids=[], max_prompt_tokens=200, model="m")
    hard = "§" * 40 + "!"
    assert "the tokenizer gives up on it" in template.fault(hard)
    with pytest.raises(PromptError, match=r"row 1 of test \('§{40}…'\): there is no prompt for it: the tokenizer"):
        template.encode(["fine", hard, "good"], "test")
    assert template.encode(["fine"])[0].ids, "the tokenizer can be used again"
