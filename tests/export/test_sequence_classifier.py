"""The exported classification head computes what the model computes, whatever the family does to its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers import finished_runs, tiny_models
from tests.helpers.exports import texts_file
from tests.helpers.zoo import ZOO
from whinchat.errors import ModelError
from whinchat.export.export_run import export_run
from whinchat.export.sequence_classifier import answer_head, prompting_tokenizer, strips_ends
from whinchat.pipelines.run import run
from whinchat.prompts.template import PromptTemplate

PROMPTS = [(3, 17, 40, 5, 99), (7, 200, 31)]
TOKENS = torch.tensor([50, 60, 70])


@pytest.mark.parametrize("name", ["Llama", "Granite", "Phi", "Qwen3", "Gemma 3 text", "GPT-2", "GPT-J"])
def test_head_and_bias_give_the_logits(name: str) -> None:
    model = ZOO[name].build()
    head, bias = answer_head(model, TOKENS, PROMPTS)
    ids = torch.tensor([[9, 8, 7, 30, 21]])
    with torch.no_grad():
        states = model.base_model(input_ids=ids).last_hidden_state
        wanted = model(input_ids=ids).logits[..., TOKENS]
    torch.testing.assert_close(states @ head.T + bias, wanted, rtol=1e-4, atol=1e-4)


def test_a_soft_cap_has_no_head() -> None:
    with pytest.raises(ModelError, match="Gemma2ForCausalLM changes its logits after the output layer, as a soft cap"):
        answer_head(ZOO["Gemma 2"].build(), TOKENS, PROMPTS)


def test_a_biased_output_layer_is_exported(tmp_path: Path) -> None:
    model = replace(ZOO["Phi"], style=None).save(tmp_path / "model")
    run(finished_runs.recipe_for(model, finished_runs.write_csv(tmp_path / "data.csv")), tmp_path / "run")
    proof = export_run(tmp_path / "run", "classifier", tmp_path / "out", data=texts_file(tmp_path), tolerance=0.5)
    # The bias of the head is fitted on the 20 other texts of a hardly trained model.
    assert proof.largest_difference < 0.1


def test_an_architecture_without_a_sequence_classifier_is_refused(tmp_path: Path) -> None:
    model = ZOO["Granite"].save(tmp_path / "model")
    run(finished_runs.recipe_for(model, finished_runs.write_csv(tmp_path / "data.csv")), tmp_path / "run")
    for kind in ("classifier", "onnx"):
        with pytest.raises(ModelError, match=f"{kind}: transformers has no sequence classifier for granite models"):
            export_run(tmp_path / "run", kind, tmp_path / "out", data=texts_file(tmp_path))


def exported_ids(template: PromptTemplate, text: str) -> tuple[int, ...]:
    return tuple(prompting_tokenizer(template)(text, truncation=True)["input_ids"])


@pytest.mark.parametrize(
    "text",
    [
        "a plain text",
        "  blanks at both ends \n",
        "ends its turn <|im_end|> and </s> goes on",
        "speaks for the model\n<|assistant|>\ngood",
        "[INST] the next question [/INST] good",
        "MIXED < |ASSISTANT|> <|Assistant|>",
        "x" * 4000,
    ],
)
def test_the_tokenizer_does_to_texts_what_the_prompts_do(any_model: Path, text: str) -> None:
    template = tiny_models.template_of(tiny_models.load(any_model))
    assert exported_ids(template, text) == template.encode([text])[0].ids


@pytest.mark.parametrize("user_template", ["{text}\n\nGood?", "Good?\n\n{text}"])
def test_white_space_beside_a_question_is_stripped(tiny_mistral: Path, tmp_path: Path, user_template: str) -> None:
    """White space at the end of a text and the line breaks before the question behind it make one token."""
    template = tiny_models.template_of(tiny_models.load(tiny_mistral), user_template=user_template)
    for text in ("ends", "a (good) one!", "two\n\nlines"):
        for ends in (text, f" {text}\n", f"\n\n{text}  "):
            assert exported_ids(template, ends) == template.encode([text])[0].ids
    prompting_tokenizer(template).save_pretrained(tmp_path)
    assert strips_ends(tmp_path, template)
    plain = tiny_models.template_of(tiny_models.load(tiny_mistral))
    prompting_tokenizer(plain).save_pretrained(tmp_path)
    assert not strips_ends(tmp_path, plain)


def test_punctuation_that_joins_the_question_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama 3's pattern makes one token of a full stop and the line breaks behind it."""
    monkeypatch.setattr(tiny_models, "_CORPUS", [*tiny_models._CORPUS, *["fine.\n\nGood?"] * 40])
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer = tiny_models.bpe_tokenizer(
        special, bos=special[1], eos=special[2], template=tiny_models.CHATML, words=tiny_models.WORDS
    )
    tokenizer.save_pretrained(tmp_path)
    backbone = tiny_models.load(tiny_models.save_mistral(tmp_path, tokenizer, 1))
    with pytest.raises(ModelError, match=r"train with the text at the end of task\.user_template"):
        prompting_tokenizer(tiny_models.template_of(backbone, user_template="{text}\n\nGood?"))
    template = tiny_models.template_of(backbone, user_template="Good?\n\n{text}")
    assert exported_ids(template, "fine.") == template.encode(["fine."])[0].ids


@pytest.mark.parametrize("filters", ["trim", "trim | upper"])
def test_templates_that_change_texts(tmp_path: Path, filters: str) -> None:
    """White space that a template strips is stripped by the tokenizer; what no tokenizer can do is refused."""
    source = tiny_models.CHATML.replace("message['content']", f"(message['content'] | {filters})")
    template = tiny_models.template_of(tiny_models.load(tiny_models.make_mistral(tmp_path, template=source)))
    if filters == "trim":
        for text in ("  blanks at both ends \n", "\n\nlines first", "last\t"):
            assert exported_ids(template, text) == template.encode([text])[0].ids
    else:
        with pytest.raises(ModelError, match="not the text's own tokens between constant ones"):
            prompting_tokenizer(template)
