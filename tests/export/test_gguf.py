"""GGUF files answer like the classifier, and the Modelfile makes the same prompts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tokenizers import Regex, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers import tiny_models
from tests.helpers.exports import TEXTS, predictor_of, texts_file
from whinchat.errors import ModelError
from whinchat.evaluation.calibrator import Calibrator
from whinchat.export import export_run as exporting
from whinchat.export import gguf_export, gguf_reader
from whinchat.export.export_run import export_run
from whinchat.export.gguf_writer import require_convertible, write_gguf
from whinchat.export.modelfile import PromptFrame, modelfile, prompt_frame, require_quotable
from whinchat.inference.predictor import Predictor
from whinchat.prompts.template import PromptTemplate

# What follows has these three in every prompt style.
STYLES = {
    "tiny_llama": (
        "<|system|>\n{system}</s>\n<|user|>\n{text}</s>\n<|assistant|>\n",
        "</s>",
    ),
    "llama_first_blank": (
        " <|system|>\n{system}</s>\n<|user|>\n{text}</s>\n<|assistant|>\n",
        "</s>",
    ),
    "tiny_mistral": (
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
    ),
    "tiny_mistral_inst": ("[INST] {system}\n\n{text} [/INST]", "</s>"),
}


@pytest.fixture
def llama_first_blank(tiny_llama: Path, tmp_path: Path) -> Path:
    """``tiny_llama`` with the tokenizer of newer families: only the first piece of a text gets a blank."""
    folder = tmp_path / "first-blank"
    shutil.copytree(tiny_llama, folder)
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(folder)
    return folder


@pytest.fixture(params=STYLES)
def styled_model(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def write(predictor: Predictor, folder: Path) -> tuple[PromptFrame, list[Path]]:
    model, template = predictor.engine.model, predictor.engine.template
    family = require_convertible(model.config, template, "tiny")
    frame = prompt_frame(template, family)
    return frame, write_gguf(model, template, family, frame.chat_template, "tiny", folder)  # type: ignore[arg-type]


def by_ollama(text: str, system: str, prompt: str) -> tuple[str, str]:
    """The prompt that Ollama makes from a Modelfile, and its stop string, by the rules of Ollama's parser and of Go."""
    template = re.search(r'^TEMPLATE """(.*?)"""$', text, re.DOTALL | re.MULTILINE)
    stop = re.search(r'^PARAMETER stop "(.*)"$', text, re.MULTILINE)
    assert template is not None
    assert stop is not None
    fields = {".System": system, ".Prompt": prompt}

    def action(match: re.Match[str]) -> str:
        inner = match[1].strip()
        return fields[inner] if inner in fields else json.loads(inner)

    before, _ = template[1].split("{{ .Response }}")
    return re.sub(r"\{\{(.*?)\}\}", action, before), stop[1]


@pytest.mark.parametrize("name", STYLES)
def test_a_modelfile_holds_the_prompt(name: str, request: pytest.FixtureRequest) -> None:
    template = tiny_models.template_of(tiny_models.load(request.getfixturevalue(name)))
    family = require_convertible(SimpleNamespace(model_type="llama", rope_parameters=PLAIN), template, name)
    frame = prompt_frame(template, family)
    modelfile_text = modelfile(template, frame, "mine", "mine-q8_0.gguf", 1)
    expected, stop = STYLES[name]
    expected = expected.format(system=tiny_models.INSTRUCTION, text="so so")
    assert by_ollama(modelfile_text, tiny_models.INSTRUCTION, "so so") == (expected, stop)
    assert frame.prompt(tiny_models.INSTRUCTION, "so so") == expected
    # What the model's own chat template says, but for the BOS and the first blank, which a tokenizer adds.
    assert template.render("so so").removeprefix("<s>") == expected.removeprefix(" ")
    assert "FROM ./mine-q8_0.gguf\n" in modelfile_text
    assert f'SYSTEM """{tiny_models.INSTRUCTION}"""\n' in modelfile_text
    assert modelfile_text.endswith("PARAMETER temperature 0\nPARAMETER num_predict 2\n")


PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


def test_quotes_and_braces_come_through(tiny_mistral: Path) -> None:
    odd = 'Text {{ .System }} """{text}"""\n{"'
    template = tiny_models.template_of(tiny_models.load(tiny_mistral), user_template=odd)
    family = require_convertible(SimpleNamespace(model_type="mistral", rope_parameters=PLAIN), template, "m")
    text = modelfile(template, prompt_frame(template, family), "mine", "mine.gguf", 1)
    assert by_ollama(text, tiny_models.INSTRUCTION, "so so")[0] == template.render("so so")


@pytest.mark.parametrize("labels", [tiny_models.ONE_TOKEN, tiny_models.NESTED], ids=["one", "nested"])
def test_llama_cpp_reads_the_same(styled_model: Path, labels: tuple[str, ...], tmp_path: Path) -> None:
    """llama.cpp makes the same tokens of every text, and computes the same scores, as transformers."""
    llama_cpp = pytest.importorskip("llama_cpp")
    predictor = predictor_of(styled_model, labels)
    frame, (half, eighth) = write(predictor, tmp_path)
    texts = [*tiny_models.TEXTS, *tiny_models.BORDER_TEXTS]
    vocabulary = llama_cpp.Llama(str(half), vocab_only=True, verbose=False)
    read = [
        tuple(vocabulary.tokenize(frame.prompt(tiny_models.INSTRUCTION, text).encode(), add_bos=True, special=True))
        for text in texts
    ]
    assert read == [prompt.ids for prompt in predictor.engine.template.encode(texts)]
    vocabulary.close()
    # Scores hold up to a constant of each row: the classifier compares the labels alone, llama.cpp all tokens.
    expected = log_softmax(predictor.score(texts), axis=1)
    for path, tolerance in ((half, 0.05), (eighth, 0.6)):
        scores = gguf_reader.gguf_scores(path, frame, predictor, texts)
        np.testing.assert_allclose(log_softmax(scores, axis=1), expected, atol=tolerance)


def test_without_llama_cpp_transformers_reads(any_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = predictor_of(any_model, tiny_models.SEVERAL_TOKENS)
    frame, (half, eighth) = write(predictor, tmp_path)
    monkeypatch.setattr(gguf_reader, "find_spec", lambda name: None)
    assert gguf_reader.gguf_reader_name().startswith("transformers ")
    expected = predictor.score(TEXTS)
    np.testing.assert_allclose(gguf_reader.gguf_scores(half, frame, predictor, TEXTS), expected, atol=0.05)
    assert eighth.stat().st_size < half.stat().st_size
    # Any program finds the weights where transformers does.
    stored = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=half.name, dtype=torch.float32).state_dict()
    for name, tensor in predictor.engine.model.state_dict().items():
        torch.testing.assert_close(stored[name], tensor, atol=2e-3, rtol=2e-3)


def test_a_run_becomes_files_for_llama_cpp(trained: Path, tmp_path: Path) -> None:
    proof = export_run(trained, "gguf", tmp_path / "out", data=texts_file(tmp_path), tolerance=0.2)
    names = ["Modelfile", "calibration.json", "proof.json", "tiny-f16.gguf", "tiny-q8_0.gguf"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    half, eighth = proof.files
    assert (half.file, half.flipped, half.reader) == ("tiny-f16.gguf", 0, gguf_reader.gguf_reader_name())
    assert half.largest_difference < 0.01 < eighth.largest_difference < 0.3
    stored = json.loads((tmp_path / "out" / "proof.json").read_text(encoding="utf-8"))
    assert [entry["flipped"] for entry in stored["files"]] == [half.flipped, eighth.flipped]
    predictor = Predictor.load(trained)
    scores = predictor.score(TEXTS[:20])
    plain = int((scores.argmax(axis=1) != predictor.calibrator.probabilities(scores).argmax(axis=1)).sum())
    assert half.flipped_uncalibrated == plain
    assert Calibrator.load(tmp_path / "out", tiny_models.ONE_TOKEN) == predictor.calibrator


def test_files_that_answer_otherwise_do_not_stay(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_export, "gguf_scores", lambda path, frame, own, texts: -own.score(texts))
    with pytest.raises(ModelError, match=r"labels differ from the classifier's own in tiny-f16\.gguf, more than"):
        export_run(trained, "gguf", tmp_path / "out", data=texts_file(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.jsonl"]


@pytest.mark.parametrize(
    ("model_type", "rope_type", "message"),
    [
        ("qwen2", "default", "m: gguf: supports llama and mistral, not qwen2; export merged, and convert that with"),
        ("llama", "llama3", "m: gguf: does not support positions scaled by 'llama3'; export merged"),
    ],
)
def test_an_unknown_architecture_is_refused(tiny_llama: Path, model_type: str, rope_type: str, message: str) -> None:
    config = SimpleNamespace(model_type=model_type, rope_parameters={"rope_type": rope_type})
    with pytest.raises(ModelError, match=message):
        require_convertible(config, tiny_models.template_of(tiny_models.load(tiny_llama)), "m")


def test_an_unknown_tokenizer_is_refused_before_anything_is_written(
    tiny_mistral: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(tiny_mistral, tiny_models.ONE_TOKEN)
    # Llama 3's way: a pattern of its own before byte-level BPE.
    predictor.engine.template.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}{1,3}|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    monkeypatch.setattr(exporting.Predictor, "load", classmethod(lambda cls, path, student: predictor))
    with pytest.raises(ModelError, match=r"the steps of this tokenizer were not compared with llama\.cpp's"):
        export_run(trained, "gguf", tmp_path / "out", data=texts_file(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.jsonl"]


def test_what_no_modelfile_holds_is_refused(tiny_mistral: Path) -> None:
    with pytest.raises(ModelError, match=r"task.instruction has three double quotes"):
        require_quotable('Say """yes""" or no.')
    backbone = tiny_models.load(tiny_mistral)
    family = require_convertible(backbone.model.config, tiny_models.template_of(backbone), "m")
    tokenizer = backbone.tokenizer.tokenizer
    tokenizer.chat_template = str(tokenizer.chat_template).replace(
        "message['content']", "message['content'] + message['content']"
    )
    template = PromptTemplate(
        tokenizer, tiny_models.tiny_task(), end_ids=backbone.tokenizer.end_ids, max_prompt_tokens=512, model="m"
    )
    with pytest.raises(ModelError, match="chat template does more than to put instruction and text in their places"):
        prompt_frame(template, family)
