"""The README of an exported student: what it is, code that runs it, and which of its answers to take."""

from __future__ import annotations

from collections.abc import Sequence

from whinchat.evaluation.cascade_results import CascadeFacts
from whinchat.recipe.task import Cleaning
from whinchat.report.card_facts import project_link
from whinchat.report.cascade_note import cascade_sentences
from whinchat.report.markdown import Markdown, escape, fence
from whinchat.report.rendering import render_template

# Each step of ``task.clean`` in Python without whinchat: the import, the functions, and the expression for a text.
_CLEANING: dict[Cleaning, tuple[str, str, str]] = {
    "html_entities": ("import html\n", "", "html.unescape(text)"),
    "json_escapes": (
        "import re\n",
        r"""

def decode(match):
    return bytes.fromhex(match[0].replace("\\u", "")).decode("utf-16-be", errors="replace")


def unescape(text):
    text = re.sub(r'(?:\\?"){2,}|\\"', '"', re.sub(r"(?:\\u[0-9a-fA-F]{4})+", decode, text))
    return re.sub(r"\\[nrt]", lambda match: {"n": "\n", "r": "\r", "t": "\t"}[match[0][1]], text)

""",
        "unescape(text)",
    ),
    "spaces": ("", "", '" ".join(text.split())'),
    "mentions": ("import re\n", "", r're.sub(r"(?<!\w)@[A-Za-z0-9_]+", "@user", text)'),
    "links": (
        "import re\n",
        "",
        r're.sub(r"https?://[A-Za-z0-9._~:/?#@$&+=%-]*", "http", text, flags=re.IGNORECASE)',
    ),
}
_CODE = """{imports}import json

import numpy as np
import onnxruntime
{functions}
facts = json.load(open("student.json", encoding="utf-8"))
session = onnxruntime.InferenceSession("student.onnx")
texts = ["what a lovely day", "meh"]
{cleaning}texts = [f" {{' '.join(text.lower().split())}} " for text in texts]
rows = [text.encode(errors="replace")[: facts["most_bytes"]] for text in texts]
lengths = np.array([len(row) for row in rows], dtype=np.int64)
padded = b"".join(row.ljust(lengths.max(), b" ") for row in rows)
data = np.frombuffer(padded, dtype=np.uint8).reshape(len(rows), -1)
*probabilities, confidence = session.run(None, {{"bytes": data, "lengths": lengths}})
for decision, own in zip(facts["decisions"], probabilities):
    print(decision["output"], [decision["labels"][best] for best in own.argmax(axis=1)], own.max(axis=1))
print({sure})
"""


def student_readme(name: str, steps: Sequence[Cleaning], most_bytes: int, facts: CascadeFacts) -> str:
    """Return the README of an exported student.

    Args:
        name: name of the recipe of its classifier.
        steps: steps of ``task.clean``.
        most_bytes: how many bytes of a text the student reads.
        facts: how the student was made and tested.
    """
    parts = [_CLEANING[step] for step in steps]
    code = _CODE.format(
        imports="".join(sorted({imports for imports, _, _ in parts})),
        functions="".join(functions for _, functions, _ in parts),
        cleaning="".join(f"texts = [{expression} for text in texts]\n" for _, _, expression in parts),
        sure="confidence" if facts.test.threshold is None else 'confidence >= facts["test"]["threshold"]',
    )
    return render_template(
        "student_readme.md.jinja",
        escape,
        name=name,
        project=project_link(),
        code=fence(code.rstrip("\n"), "python"),
        facts=facts,
        steps=Markdown(", ".join(f"`{step}`" for step in steps)),
        most_bytes=most_bytes,
        cascade_sentences=cascade_sentences,
    )
