"""NF4 weights dequantized in chunks are bit-identical to those of bitsandbytes; everything else works without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Params4bit

from tests.helpers import finished_runs
from whinchat.models import nf4
from whinchat.models.nf4 import unpack_nf4

ROOT = Path(__file__).parents[2]


def quantized(rows: int, columns: int, dtype: torch.dtype, nested: bool, seed: int = 0) -> Any:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=nested).to("cpu")


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(96, 64), (50, 192), (7, 320), (33, 24), (5, 9)])
def test_bit_equal(shape: tuple[int, int], dtype: torch.dtype, nested: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "_UNPACK_CHUNK", 1024)
    weight = quantized(*shape, dtype, nested)
    found = unpack_nf4(weight)
    assert found.dtype == dtype
    assert torch.equal(found, dequantize_4bit(weight.data, weight.quant_state))


def test_one_buffer_serves_all_weights_of_a_thread() -> None:
    large, small = quantized(96, 64, torch.bfloat16, True), quantized(32, 64, torch.bfloat16, True, seed=1)
    first = unpack_nf4(large)
    wanted = dequantize_4bit(small.data, small.quant_state)
    with torch.inference_mode():
        second = unpack_nf4(small)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, wanted)
    # Made under inference mode or not, the weight can be multiplied in a step that needs gradients.
    x = torch.randn(3, 64, dtype=torch.bfloat16, requires_grad=True)
    (x @ unpack_nf4(small).T).sum().backward()
    assert x.grad is not None


WITHOUT_BITSANDBYTES = """
import sys
sys.modules["bitsandbytes"] = None  # makes every import of it fail
from pathlib import Path
from tests.helpers import finished_runs, tiny_models
from tests.helpers.quick_figures import draw_no_figures
from whinchat.errors import ModelError
from whinchat.inference.predictor import Predictor
from whinchat.pipelines.inspect_machine import inspect_machine
from whinchat.pipelines.run import run

model, source, out = map(Path, sys.argv[1:])
settings = {"max_steps": 1, "eval_steps": None, "per_device_train_batch_size": 2}
recipe = finished_runs.recipe_for(model, source, train=settings, adapter={"method": "dora"})
with draw_no_figures():
    record = run(recipe, out)
print(record.manifest.train_steps, len(Predictor.load(out).predict(["a text", "another"])), inspect_machine().four_bit)
try:
    tiny_models.load(model, load_in="nf4")
except ModelError as error:
    print(error)
"""


def test_only_nf4_needs_bitsandbytes(tiny_llama: Path, tmp_path: Path) -> None:
    source = finished_runs.write_csv(tmp_path / "texts.csv", rows=40)
    command = [sys.executable, "-c", WITHOUT_BITSANDBYTES, str(tiny_llama), str(source), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trained, refusal = done.stdout.splitlines()
    assert trained == "1 2 False"
    assert refusal.startswith("backbone.load_in: nf4 needs the package bitsandbytes, which cannot be imported (")
    assert refusal.endswith("); `pip install 'whinchat[nf4]'`, or set backbone.load_in=auto")
