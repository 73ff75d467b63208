"""Load a tokenizer with exactly the token ids that its tokenizer.json gives."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import RemoteEntryNotFoundError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from whinchat.errors import ModelError

_FILE = "tokenizer.json"


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
    if not _has_tokenizer_file(path, revision):
        return None
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path, revision=revision, trust_remote_code=False)
    if not {"bos_token", "eos_token"} <= tokenizer.init_kwargs.keys():
        _name_special_tokens(tokenizer, path, revision)
    return tokenizer


def _has_tokenizer_file(path: str, revision: str) -> bool:
    if Path(path).is_dir():
        return (Path(path) / _FILE).is_file()
    try:
        hf_hub_download(path, _FILE, revision=revision)
    except RemoteEntryNotFoundError:
        return False
    return True


def _name_special_tokens(tokenizer: PreTrainedTokenizerFast, path: str, revision: str) -> None:
    """Give ``tokenizer`` the special tokens of its class that its settings leave out and its vocabulary has."""
    own = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    vocabulary = tokenizer.get_vocab()
    for role, token in own.special_tokens_map.items():
        if getattr(tokenizer, role, None) is None and isinstance(token, str) and token in vocabulary:
            setattr(tokenizer, role, token)
