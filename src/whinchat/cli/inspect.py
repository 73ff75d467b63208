"""``whinchat inspect``: one training example, token by token."""

from __future__ import annotations

from rich.text import Text

from whinchat.cli.output import emit_json, out
from whinchat.errors import DataError
from whinchat.recipe.schema import Recipe


def print_example(recipe: Recipe, row: int, as_json: bool) -> None:
    """Show training row ``row`` as the model sees it; needs the tokenizer, not the weights."""
    from whinchat.data.sources import load_corpus
    from whinchat.models.backbone import find_model, load_tokenizer

    train = load_corpus(recipe).train
    if row >= len(train):
        raise DataError(f"--row {row}: train has {len(train)} rows, numbered from 0")
    # Building the template already refuses answers that would train on nothing.
    template = load_tokenizer(find_model(recipe.backbone)).template(recipe)
    prompt = template.encode([train.texts[row]])[0]
    label = train.labels[row]
    answer = (*template.answers[label], template.end_of_turn)
    ids = (*prompt.ids, *answer)
    tokens = [template.tokenizer.decode([one]) for one in ids]
    if as_json:
        emit_json(
            {
                "row": row,
                "text": train.texts[row],
                "label": recipe.task.labels[label],
                "input_ids": list(ids),
                "tokens": tokens,
                "supervised": [at >= len(prompt.ids) for at in range(len(ids))],
                "shortened": prompt.truncated_tokens,
                "defused": prompt.escaped_control_tokens,
            }
        )
        return
    shown = Text()
    for at, token in enumerate(tokens):
        # Alternating shades make token borders visible; line ends are drawn, then taken.
        style = "bold black on green" if at >= len(prompt.ids) else ("white on grey23", "white on grey35")[at % 2]
        shown.append(token.replace("\n", "⏎"), style=style)
        if token.endswith("\n"):
            shown.append("\n")
    out.print(shown, soft_wrap=True)
    out.print(
        f"\nlabel {recipe.task.labels[label]}; {len(prompt.ids)} tokens read, {len(answer)} supervised (green)",
        markup=False,
    )
    if prompt.truncated_tokens:
        out.print(f"text shortened by {prompt.truncated_tokens} tokens to fit backbone.max_prompt_tokens")
    if prompt.escaped_control_tokens:
        out.print(f"{prompt.escaped_control_tokens} control tokens in the text broken up")
