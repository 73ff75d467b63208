"""Files of run folders and adapters: damaged JSON, YAML and safetensors. What is taken gives finite scores."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from peft import PeftModel
from tests.helpers import tiny_models

from fuzz.areas import Check, FuzzArea
from fuzz.odd_values import damaged, odd_value
from whinchat.evaluation.calibrator import Calibrator
from whinchat.models.adapters import load_adapter
from whinchat.storage.locate import find_classifier
from whinchat.storage.run_folder import RunFolder

STORED = Path(__file__).parents[1] / "tests" / "storage" / "version_0_1_0"
_JSON_FILES = (
    "adapter/adapter_config.json", "adapter/calibration.json", "manifest.json", "before.json", "after.json",
    "history.json",
    "paired.json", "samples.json", "trust.json",
)  # fmt: skip
_OTHER_FILES = ("adapter/recipe.yaml", "adapter/adapter_model.safetensors", "recipe.yaml", "predictions.parquet")
_PIECES = (
    b'"', b"{", b"}", b"[", b"]", b":", b",", b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"true", b'"a":1,',
    b"\x00", b"\xff",
    b"\\ud800", b"9" * 4400, b"[" * 1000, b"F64", b"BF16", b"I64", b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"__metadata__",
)  # fmt: skip


@st.composite
def _changed_json(draw: st.DrawFn, content: Any) -> bytes:
    """The document with one value replaced, removed or added, somewhere."""
    changed = copy.deepcopy(content)
    node = changed
    for _ in range(draw(st.integers(0, 3))):
        inner = [
            value for value in (node.values() if isinstance(node, dict) else node) if isinstance(value, dict | list)
        ]
        if not inner:
            break
        node = draw(st.sampled_from(inner))
    if isinstance(node, dict):
        key = draw(st.sampled_from([*node, "unknown"]))
        if draw(st.booleans()):
            node[key] = draw(odd_value)
        else:
            node.pop(key, None)
    elif node:
        node[draw(st.integers(0, len(node) - 1))] = draw(odd_value)
    return json.dumps(changed).encode()


def _case(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    content = (STORED / "run" / name).read_bytes()
    ways = [damaged(st.just(content), _PIECES)]
    if name.endswith(".json"):
        ways.append(_changed_json(json.loads(content)))
    return st.tuples(st.just(name), st.one_of(ways))


@contextmanager
def _open(folder: Path) -> Iterator[Check]:
    run = folder / "run"
    shutil.copytree(STORED / "run", run)
    backbone = tiny_models.load(STORED / "model")
    ids = torch.tensor([[1, 5, 9, 12]])

    def check(case: tuple[str, bytes]) -> None:
        name, content = case
        path = run / name
        path.write_bytes(content)
        try:
            if name in {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}:
                _score(load_adapter(copy.deepcopy(backbone.model), run / "adapter"), ids)
            elif name.startswith("adapter/"):
                found = find_classifier(run)
                calibrator = Calibrator.load(run / "adapter", found.recipe.task.labels)
                probabilities = calibrator.probabilities(torch.full((1, len(calibrator.labels)), -1.0).numpy())
                assert abs(probabilities.sum() - 1) < 1e-6
            else:
                RunFolder(run).read()
        finally:
            shutil.copyfile(STORED / "run" / name, path)

    yield check


def _score(model: PeftModel, ids: torch.Tensor) -> None:
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all(), "scores that are not finite"


FILE_AREA = FuzzArea("model files", st.sampled_from([*_JSON_FILES, *_OTHER_FILES]).flatmap(_case), _open, share=0.1)
