"""Load a tokenizer with exactly the token ids that its tokenizer.json gives."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from whinchat.errors import ModelError
from whinchat.models.json_files import LARGEST_BYTES
from whinchat.prompts.trial import tokenizer_fault

_FILE = "tokenizer.json"
# What else transformers reads of a folder. The largest settings, of models with 6,000 control tokens, have 1.2 MB.
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")
_LARGEST_SETTINGS = 16 * 2**20


def read_tokenizer(path: str, revision: str, name: str) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model or adapter.

    A tokenizer.json holds every step from text to token ids. For many families transformers reads only its vocabulary
    and merges, and rebuilds the other steps as the tokenizer's class has them today. TinyLlama then loses the piece
    after each end of turn with which the model was trained. Here the file is used as published, and code that a
    repository brings along is not run. Special tokens that the settings do not name are those of the class.

    Args:
        path: a folder, or OWNER/NAME on the Hugging Face hub.
        revision: branch, tag or commit on the hub.
        name: name of the model in error messages.

    Raises:
        ModelError: there is no tokenizer.json, or this release of transformers cannot read the tokenizer.
    """
    try:
        tokenizer = _read(path, revision)
    except Exception as error:  # for a damaged file, tokenizers raises Exception itself
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name}: its tokenizer cannot be loaded: {first_line}") from error
    if tokenizer is None:
        raise ModelError(
            f"{name}: has no tokenizer.json; ids made from other files (tokenizer.model, tekken.json, vocab.json) "
            "can differ from the token ids of its training, so choose a copy of the model that has this file"
        )
    return tokenizer


def _read(path: str, revision: str) -> PreTrainedTokenizerFast | None:
    """Return the tokenizer, or None where there is no tokenizer.json."""
    file = _tokenizer_file(path, revision)
    if file is None:
        return None
    for name, largest in {_FILE: LARGEST_BYTES, **dict.fromkeys(_SETTINGS, _LARGEST_SETTINGS)}.items():
        size = beside.stat().st_size if (beside := file.with_name(name)).is_file() else 0
        if size > largest:
            raise ValueError(f"{name} has {size / 2**20:.0f} MiB, and no such file needs more than {largest >> 20}")
    if fault := tokenizer_fault(file.read_bytes()):
        raise ValueError(f"{_FILE} is not used: {fault}; choose another copy of the model")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, revision=revision, trust_remote_code=False)
    if not {"bos_token", "eos_token"} <= tokenizer.init_kwargs.keys():
        _name_special_tokens(tokenizer, path, revision)
    return tokenizer


def _tokenizer_file(path: str, revision: str) -> Path | None:
    if Path(path).is_dir():
        file = Path(path) / _FILE
        return file if file.is_file() else None
    try:
        return Path(hf_hub_download(path, _FILE, revision=revision))
    except RemoteEntryNotFoundError:
        return None


def _name_special_tokens(tokenizer: PreTrainedTokenizerFast, path: str, revision: str) -> None:
    """Give ``tokenizer`` the special tokens of its class that its settings leave out and its vocabulary has."""
    own = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    vocabulary = tokenizer.get_vocab()
    for role, token in own.special_tokens_map.items():
        if getattr(tokenizer, role, None) is None and isinstance(token, str) and token in vocabulary:
            setattr(tokenizer, role, token)
