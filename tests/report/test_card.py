"""The card: metadata the hub reads back, and a body that says only what the record says."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from markdown_it import MarkdownIt

from tests.helpers.run_records import HOSTILE, labels_of, run_record, with_manifest
from tests.helpers.shown_numbers import record_numbers, shown_numbers
from whinchat.recipe.card_metadata import PublishConfig
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.model_config import AdapterConfig
from whinchat.report.card import build_card, card_data
from whinchat.report.titles import hub_model, run_title


def test_metadata_goes_through_the_hub_library_and_back() -> None:
    record = run_record()
    data = ModelCard(build_card(record).content).data
    assert data.license == "apache-2.0"
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert (data.library_name, data.pipeline_tag, data.language) == ("peft", "text-classification", "en")
    assert {"whinchat", "peft", "transformers", "dora"} <= set(data.tags)
    assert data.datasets is None


def test_model_index_holds_exactly_the_figures_of_the_record() -> None:
    record = run_record()
    name, results = model_index_to_eval_results(card_data(record).to_dict()["model-index"])
    assert name == "SmolLM2-135M-Instruct with DoRA classifies texts by tweet sentiment"
    measured = [record.shipped, record.after.score, record.after.generate, record.after.generate_first_word]
    wanted = [value for one in measured if one for value in (one.macro_f1, one.macro_recall, one.accuracy)]
    assert [result.metric_value for result in results] == wanted
    assert [result.metric_type for result in results] == ["f1", "recall", "accuracy"] * 4
    assert {result.dataset_split for result in results} == {"validation"}
    assert results[0].metric_name == "macro-F1, calibrated answers"


def test_model_index_without_generation_has_label_scores_and_what_is_made_of_them() -> None:
    assert len(card_data(run_record(generate=False)).eval_results or []) == 6
    assert len(card_data(run_record(generate=False, trusted=False)).eval_results or []) == 3


def test_hub_data_is_named_with_configuration_and_revision() -> None:
    record = with_manifest(run_record(), data_source="hub:cardiffnlp/tweet_eval", data_revision="abc")
    data = DataConfig(source="hub:cardiffnlp/tweet_eval", config="sentiment")
    record = replace(record, recipe=record.recipe.model_copy(update={"data": data}))
    metadata = card_data(record)
    assert metadata.datasets == ["cardiffnlp/tweet_eval"]
    result = (metadata.eval_results or [])[0]
    assert (result.dataset_type, result.dataset_config, result.dataset_revision) == (
        "cardiffnlp/tweet_eval",
        "sentiment",
        "abc",
    )


@pytest.mark.parametrize(
    ("source", "commit", "wanted"),
    [
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "a" * 40, "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        ("package:smollm2-135m-instruct", "f" * 64, "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("models/tiny", "f" * 64, None),
        ("/home/someone/model", None, None),
    ],
)
def test_only_a_model_of_the_hub_becomes_base_model(source: str, commit: str | None, wanted: str | None) -> None:
    record = with_manifest(run_record(), model_source=source, model_commit=commit)
    assert hub_model(record.manifest) == wanted
    metadata = card_data(record).to_dict()
    assert metadata.get("base_model") == wanted
    assert ("base_model_relation" in metadata) == (wanted is not None)
    assert f"This is a DoRA adapter for {'[' if wanted else source}" in build_card(record).text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (None, {}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("Acme Research", {"license": "other", "license_name": "acme-research"}),
    ],
)
def test_license_is_one_the_hub_knows_or_other(name: str | None, wanted: dict[str, str]) -> None:
    metadata = card_data(with_manifest(run_record(), model_license=name)).to_dict()
    assert {key: value for key, value in metadata.items() if key.startswith("license")} == wanted


def test_the_recipe_fills_in_what_no_run_can_measure() -> None:
    publish = PublishConfig(
        license="other", license_name="Acme {Research}", license_link="https://acme.example/l",
        data_license="CC BY 4.0", datasets=("acme/tickets",), tags=("support",), developers="Ann {Lee}",
        intended_use="To route tickets.", out_of_scope_use="Not for complaints.",
    )  # fmt: skip
    record = run_record()
    card = build_card(replace(record, recipe=record.recipe.model_copy(update={"publish": publish})), repository="me/x")
    data = ModelCard(card.content).data.to_dict()
    assert (data["license"], data["license_name"], data["license_link"]) == (
        "other", "Acme {Research}", "https://acme.example/l",
    )  # fmt: skip
    assert data["datasets"] == ["acme/tickets"]
    assert "support" in data["tags"]
    for sentence in ("To route tickets. The classifier gives", "Not for complaints. Other kinds of text", "CC BY 4.0"):
        assert sentence in card.text
    assert "  author = {Ann Lee},\n" in card.text
    assert "whinchat predict me/x" in card.text
    assert "OWNER/NAME" not in card.text


def test_unknown_facts_are_left_out_and_no_path_is_in_the_quick_start() -> None:
    record = with_manifest(run_record(), model_source="/home/ann/model", model_license=None, data_source="/home/x.csv")
    text = build_card(record).text
    for absent in ("License", "Developed by", "author", "None"):
        assert absent not in text
    quick_start = text[text.index("## How to use") : text.index("## Evaluation results")]
    assert "whinchat predict OWNER/NAME" in quick_start
    assert 'base, adapter = "OWNER/BASE-MODEL", "OWNER/NAME"' in quick_start
    assert "/home" not in quick_start
    assert "License of the data: mit" in build_card(with_manifest(record, data_source="package:vader-tweets")).text


@pytest.mark.parametrize("count", [2, 3, 6])
def test_every_figure_on_the_card_is_in_the_record(count: int) -> None:
    record = run_record(labels_of(count))
    text = build_card(record).text
    assert shown_numbers(text) <= record_numbers(record)
    assert f"{record.after.score.macro_f1:.3f}" in text
    assert "0.0625 | 0.6013" in text


def test_what_is_missing_is_called_not_measured() -> None:
    record = replace(run_record(generate=False, points=0), paired=(), samples=())
    record = with_manifest(record, train_examples_per_second=None, peak_memory_bytes=0)
    text = build_card(record).text
    assert "| free generation | macro-F1 | not measured | not measured |" in text
    assert "| training speed | not measured |" in text
    assert "| peak memory of the process | not measured |" in text
    assert "Paired test of the predictions before and after training: not measured." in text
    assert "Training loss over steps: not measured." in text
    assert "confusion_generate" not in text
    assert "None" not in text


def test_hostile_text_stays_text() -> None:
    record = run_record(("plain", "a|b`c", "<img src=x onerror=alert(1)>"), text=HOSTILE)
    recipe = record.recipe.model_copy(update={"name": "x\n---\n<b>", "description": "```\n# no heading [x](y)"})
    card = build_card(replace(record, recipe=recipe))
    assert card.data.model_name == run_title(record)
    tokens = MarkdownIt("commonmark").enable("table").parse(card.text)
    inline = [child for token in tokens for child in token.children or ()]
    assert not [one.content for one in inline if one.type == "html_inline"]
    assert {one.content.strip() for one in tokens if one.type == "html_block"} == {
        "<details><summary>With transformers and PEFT alone, by free generation</summary>",
        "<details><summary>The recipe</summary>",
        "</details>",
    }
    targets = {str(one.attrs["href"]) for one in inline if one.type == "link_open"}
    # The address of the project stands in the metadata of the installed package.
    assert targets - {"https://pypi.org/project/whinchat/"} == {
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "https://huggingface.co/x/y",
    }
    assert [one.content for one in tokens if one.type == "fence" and one.info == "python"]
    headings = [tokens[at + 1].content for at, one in enumerate(tokens) if one.type == "heading_open"]
    assert "no heading" not in " ".join(headings)


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    text = build_card(run_record(("a|b", "c\\", "d\ne"), text=HOSTILE)).text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    widths: list[set[int]] = []
    for token in tokens:
        if token.type == "table_open":
            widths.append(set())
        elif token.type == "tr_open":
            cells = 0
        elif token.type in {"td_open", "th_open"}:
            cells += 1
        elif token.type == "tr_close":
            widths[-1].add(cells)
    assert len(widths) == 13
    assert all(len(found) == 1 for found in widths)
    # markdown-it trims surplus cells, so the separators are counted as well.
    for line in text.splitlines():
        if line.startswith("| a \\| b &lt;"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 7


def test_method_names_and_figures_folder() -> None:
    record = with_manifest(run_record(), load_in="nf4")
    recipe = record.recipe.model_copy(update={"adapter": AdapterConfig(method="lora", init="pissa")})
    text = str(build_card(replace(record, recipe=recipe), repository="me/x", figures="pictures/"))
    assert "This is a QLoRA from PiSSA adapter for" in text
    assert "(pictures/per_label.png)" in text
    assert 'adapter = "HuggingFaceTB/SmolLM2-135M-Instruct", "me/x"' in text
