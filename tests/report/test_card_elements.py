"""The card holds everything that the authors of published cards tell of their models, where a reader looks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from tests.helpers.quick_figures import draw_no_figures
from tests.helpers.run_records import run_record, with_manifest
from whinchat.recipe.data_config import DataConfig
from whinchat.recipe.model_config import AdapterConfig
from whinchat.recipe.schema import EvaluateConfig, Recipe, Reference, TrainConfig
from whinchat.report.card import build_card
from whinchat.report.comparison import compare_records
from whinchat.report.html import render_report
from whinchat.report.write import write_report_files
from whinchat.storage.run_comparison import StoredComparison
from whinchat.storage.run_folder import RunFolder
from whinchat.storage.run_record import RunRecord

PUBLISHED = Reference(
    title="A published card",
    before_macro_f1=0.14,
    after_macro_f1=0.51,
    url="https://huggingface.co/x/y",
    answered_by="first_word",
    settings={
        "adapter.r": 16,
        "train.learning_rate": "2e-4",
        "data.train_rows": 10_000,
        "backbone.compute_dtype": "float16",
    },
)


def published_run(**changes: object) -> RunRecord:
    """A run with the settings of ``PUBLISHED`` on a GPU, but for ``changes`` of the recipe."""
    record = with_manifest(
        run_record(),
        device="cuda",
        compute_dtype="float16",
        load_in="nf4",
        accelerator="Tesla T4",
        accelerator_memory_bytes=15_828_320_256,
        peak_accelerator_bytes=3_221_225_472,
        adapted_share=0.877,
        data_source="hub:cardiffnlp/tweet_eval",
    )
    fields = record.recipe.model_dump() | {
        "name": "tinyllama-qlora-as-published",
        "description": "TinyLlama with QLoRA, as published (0.14 -> 0.51)",
        "data": DataConfig(source="hub:cardiffnlp/tweet_eval", config="sentiment", train_rows=10_000),
        "backbone": record.recipe.backbone.model_copy(update={"compute_dtype": "float16", "load_in": "nf4"}),
        "adapter": AdapterConfig(r=16, lora_alpha=32, lora_dropout=0.1, target_modules=("q_proj", "v_proj")),
        "train": TrainConfig(
            learning_rate=2e-4, num_train_epochs=3, per_device_train_batch_size=8, gradient_accumulation_steps=4,
            lr_scheduler_type="constant_with_warmup",
        ),
        "evaluate": EvaluateConfig(parse="first_word"),
        "reference": PUBLISHED,
    }  # fmt: skip
    return replace(record, recipe=Recipe.model_validate(fields | changes))


class Card:
    """The title, the sections with their text, and the tables of a card."""

    def __init__(self, record: RunRecord) -> None:
        self.card = build_card(record)
        tokens = MarkdownIt("commonmark").enable("table").parse(self.card.text)
        lines = self.card.text.splitlines()
        headings = [(at, token.map) for at, token in enumerate(tokens) if token.type == "heading_open" and token.map]
        ends = [where[0] for _, where in headings[1:]] + [len(lines)]
        # A section ends where the next heading begins.
        self.sections = {
            tokens[at + 1].content: "\n".join(lines[where[1] : end])
            for (at, where), end in zip(headings, ends, strict=True)
        }
        self.order = [*self.sections]
        self.title = self.order[0]
        self.facts = dict(re.findall(r"^\| (.+?) \| (.+?) \|", self.sections["Model details"], flags=re.MULTILINE))


@pytest.fixture(autouse=True)
def _no_figures(_drawn: None) -> Iterator[None]:
    """Draw no figures, against the other tests of this folder."""
    with draw_no_figures():
        yield


@pytest.fixture(scope="module")
def card() -> Card:
    return Card(published_run())


def test_the_title_is_a_sentence_and_no_name_of_a_recipe(card: Card) -> None:
    assert card.title == "SmolLM2-135M-Instruct with QLoRA classifies texts by tweet sentiment"
    assert card.card.data.model_name == card.title
    assert ModelCard(card.card.content).data.model_name == card.title


def test_what_a_reader_looks_for_first_stands_above_the_details(card: Card) -> None:
    assert card.order[:3] == [card.title, "How to use", "Evaluation results"]
    assert "|" not in card.sections[card.title]


def test_macro_f1_before_and_after(card: Card) -> None:
    record = published_run()
    before, after = record.before.score.macro_f1, record.shipped.macro_f1
    assert f"Macro-F1 rose from {before:.2f} to {after:.2f} on 600 validation texts" in card.sections[card.title]


def test_method_and_hyperparameters(card: Card) -> None:
    assert card.facts["method"] == "QLoRA with rank 16, lora\\_alpha 32 and dropout 0.1 on q\\_proj, v\\_proj"
    assert card.facts["training"] == (
        "3 epochs, learning rate 0.0002 (constant\\_with\\_warmup), batches of 8 x 4 texts, loss: completion"
    )
    table = card.sections["Training procedure"]
    for name, value in {
        "rank r": "16",
        "lora\\_alpha": "32",
        "lora\\_dropout": "0.1",
        "learning rate": "0.0002",
    }.items():
        assert f"| {name} | {value} |" in table


def test_data_and_its_rows(card: Card) -> None:
    assert card.facts["training data"] == (
        "411 texts of hub:cardiffnlp/tweet\\_eval (sentiment), from the first 10,000 rows"
    )
    assert "| all labels | 411 | 411 | 411 |" in card.sections["Training data"]


def test_hardware_and_its_memory(card: Card) -> None:
    assert card.facts["hardware"] == "Tesla T4 (14.74 GiB of memory)"
    assert card.facts["peak memory"] == "3.00 GiB on the GPU, 2.18 GiB in main memory"
    assert card.facts["training time"] == "7 min 32 s"
    assert card.facts["data types"] == "weights in nf4, computation in float16"


def test_the_share_of_weights_with_an_adapter(card: Card) -> None:
    assert card.facts["trained weights"].endswith(
        "(3.6 %); share of the base model's weights in layers with an adapter: 87.7 %"
    )
    assert Card(run_record()).facts["trained weights"].endswith("in layers with an adapter: not measured")


def test_chosen_layers_are_named() -> None:
    record = run_record()
    chosen = {"adapter": {"layers_to_transform": (0, 1)}, "backbone": {"layers": 1}}
    sections = {name: getattr(record.recipe, name).model_copy(update=keys) for name, keys in chosen.items()}
    card = Card(replace(record, recipe=record.recipe.model_copy(update=sections)))
    assert card.facts["method"].endswith(" on all-linear in the layers 0, 1, counted from 0")
    assert card.facts["base model"].endswith(", cut to its first layer")
    assert "| layers with an adapter, counted from 0 | 0, 1 |" in str(card.card)


def test_hardware_of_a_processor_and_of_an_earlier_version() -> None:
    record = run_record()
    platform = {"system": "Linux", "processor": "AMD EPYC", "cores": "2"}
    assert Card(with_manifest(record, platform=platform)).facts["hardware"] == "CPU, AMD EPYC, 2 cores"
    assert Card(with_manifest(record, platform={})).facts["hardware"] == "CPU"
    assert Card(with_manifest(record, device="cuda")).facts["hardware"] == "cuda"


def test_the_prompt(card: Card) -> None:
    instruction = published_run().recipe.task.instruction
    assert f"```text\n{instruction}\n```" in card.sections["Prompt"]
    assert "The user turn is the text itself." in card.sections["Prompt"]
    task = run_record().recipe.task.model_copy(update={"user_template": "Tweet: {text}"})
    record = replace(run_record(), recipe=run_record().recipe.model_copy(update={"task": task}))
    assert "```text\nTweet: {text}\n```" in Card(record).sections["Prompt"]
    assert "Tweet: {text}" in render_report(record)
    assert "whatever the day" not in Card(record).sections["Prompt"]
    dated = with_manifest(record, prompt_date="2026-05-04")
    assert "The prompt states the date 2026-05-04, whatever the day." in Card(dated).sections["Prompt"]
    assert "The prompt states the date 2026-05-04, whatever the day." in render_report(dated)


def test_heatmaps_before_and_after_are_shown_and_are_files_of_their_own(card: Card, tmp_path: Path) -> None:
    record = published_run()
    assert "(figures/confusion_score.png)" in card.card.text
    assert "with free generation (first label word). Macro-F1" in card.card.text
    folder = RunFolder(tmp_path)
    write_report_files(record, folder)
    for mode in ("score", "generate"):
        for name in (f"confusion_{mode}", f"confusion_{mode}_before", f"confusion_{mode}_after"):
            assert (folder.figures / f"{name}.png").is_file()


def test_sample_generations(card: Card) -> None:
    samples = card.sections["Sample predictions"]
    assert "| text | true label | generated before | generated after |" in samples
    assert "| What a lovely day | negative | The tweet is about | negative |" in samples


def test_the_comparison_with_the_other_method() -> None:
    record = published_run()
    records = {"qlora": record, "full": run_record()}
    stored = StoredComparison("qlora", compare_records(records))
    card = Card(replace(record, comparison=stored))
    section = card.sections["Comparison with other methods"]
    assert "| run | base model | method | train rows | learning rate |" in section
    assert "| qlora (this run) | package:smollm2-135m-instruct | QLoRA | 411 | 0.0002 |" in section
    assert "| full | package:smollm2-135m-instruct | DoRA | 411 | 0.0005 |" in section
    assert "- Times and memory were measured on different devices: cpu, cuda." in section
    assert "qlora (this run)" in render_report(replace(record, comparison=stored))
    assert Card(record).sections.get("Comparison with other methods") is None


def test_the_published_figures_stand_below_those_that_they_compare_with(card: Card) -> None:
    record = published_run()
    before, after = record.before.generate_first_word, record.after.generate_first_word
    assert before is not None
    assert after is not None
    lines = card.sections["Evaluation results"].splitlines()
    at = lines.index("| published: A published card | macro-F1 | 0.14 | 0.51 |")
    assert lines[at - 1].startswith("| free generation (first label word) | macro-F1 | ")
    assert f"| {before.macro_f1:.3f} (" in lines[at - 1]
    link = "[A published card](https://huggingface.co/x/y) reports a macro-F1 of 0.14 before and 0.51 after training"
    assert f"{link}, with free generation (first label word)." in card.sections[card.title]
    section = card.sections["Published figures"]
    assert link in section
    for part in (card.sections[card.title], section):
        assert f"With the same way of answering, this run has {before.macro_f1:.3f} (" in part
        assert f"before and {after.macro_f1:.3f} (" in part
    link = '<a href="https://huggingface.co/x/y">A published card</a> reports a macro-F1 of 0.14'
    assert render_report(record).count(link) == 2


@pytest.mark.parametrize(("answered_by", "mode"), [("score", "label scoring"), ("exact", "free generation")])
def test_published_figures_of_other_kinds(answered_by: str, mode: str) -> None:
    reference = PUBLISHED.model_copy(update={"answered_by": answered_by})
    lines = Card(published_run(reference=reference)).sections["Evaluation results"].splitlines()
    at = lines.index("| published: A published card | macro-F1 | 0.14 | 0.51 |")
    assert lines[at - 1].startswith(f"| {mode} | macro-F1 |")


def test_published_figures_of_an_unknown_kind_stand_alone() -> None:
    card = Card(published_run(reference=PUBLISHED.model_copy(update={"answered_by": None})))
    metrics, _ = card.sections["Evaluation results"].split("Simple methods")
    rows = [line for line in metrics.splitlines() if line.startswith("|")]
    assert rows[-1].startswith("| published: A published card")
    assert "It is not known which of the measured figures compares with this." in card.sections["Published figures"]


def test_a_run_with_the_published_settings_is_as_published(card: Card) -> None:
    assert "The run is as published in 4 settings, all that the recipe lists." in card.sections["Published figures"]
    assert "as published (0.14 -&gt; 0.51)" in card.sections[card.title]


@pytest.mark.parametrize(
    ("changes", "manifest", "row"),
    [
        ({"train": TrainConfig(learning_rate=1e-3)}, {}, "| train.learning\\_rate | 0.0002 | 0.001 |"),
        ({"data": DataConfig(source="x")}, {}, "| data.train\\_rows | 10000 | all |"),
        ({"adapter": AdapterConfig(r=8)}, {}, "| adapter.r | 16 | 8 |"),
        # The recipe asks for float16, but the machine computed in float32.
        ({}, {"compute_dtype": "float32"}, "| backbone.compute\\_dtype | float16 | float32 |"),
    ],
)
def test_a_run_with_other_settings_is_not_as_published(
    changes: dict[str, object], manifest: dict[str, object], row: str
) -> None:
    record = with_manifest(published_run(**changes), **manifest)
    card = Card(record)
    assert "The run differs from the publication in 1 setting." in card.sections["Published figures"]
    assert row in card.sections["Published figures"]
    for page in (card.card.content, render_report(record)):
        assert not re.search(r"as[- ]published", page, re.IGNORECASE)


def test_a_data_type_that_the_device_replaced_stands_under_limits() -> None:
    note = "float16 products are emulated on this cpu; float32 is used instead"
    wanted = f"- The device did not follow the recipe: {note}."
    record = with_manifest(published_run(), compute_dtype="float32", device_notes=(note,))
    assert wanted in Card(record).sections["Bias, risks and limitations"]
    earlier = with_manifest(published_run(), compute_dtype="float32")
    assert "recipe: float16 was replaced by float32." in Card(earlier).sections["Bias, risks and limitations"]
    assert "The device did not follow" not in Card(published_run()).sections["Bias, risks and limitations"]


def test_a_run_folder_of_an_earlier_version_has_a_card_and_a_report() -> None:
    record = RunFolder(Path(__file__).parents[1] / "storage" / "golden").read()
    card = Card(record)
    assert "| free generation (first label word) | macro-F1 | not measured | not measured |" in card.card.text
    assert "with free generation. Macro-F1" in card.card.text
    assert card.facts["hardware"] == "CPU, x86\\_64, 2 cores"
    assert card.facts["trained weights"].endswith("with an adapter: not measured")
    assert "None" not in card.card.text
    assert card.title in render_report(record)


def test_a_run_of_an_earlier_version_has_one_reading_of_the_answers() -> None:
    record = published_run()
    record = replace(
        record,
        before=replace(record.before, generate_first_word=None),
        after=replace(record.after, generate_first_word=None),
    )
    card = Card(record)
    assert "| free generation (first label word) | macro-F1 | not measured | not measured |" in card.card.text
    assert "with free generation. Macro-F1" in card.card.text
    assert "In this run, this was not measured." in card.sections["Published figures"]
    assert "Macro-F1 with free generation</dt>" in render_report(record)
