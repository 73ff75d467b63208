"""Tokenize, and turn a tokenizer's panic into an error."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from whinchat.errors import PromptError


def token_ids(tokenizer: PreTrainedTokenizerFast, chats: Sequence[str]) -> list[list[int]]:
    """Return the token ids of rendered chats, without tokens that the chat template does not write.

    A pattern that backtracks ends after ten million steps of one match; the library tokenizers then panics, and can be
    used again.

    Raises:
        PromptError: the tokenizer gives up on a chat.
    """
    if not chats:
        return []
    try:
        ids: list[list[int]] = tokenizer(list(chats), add_special_tokens=False)["input_ids"]
    except BaseException as error:  # the class of Rust's panics can be imported from nowhere
        if type(error).__name__ != "PanicException":
            raise
        raise PromptError(f"the tokenizer gives up on it ({error})") from None
    return ids
