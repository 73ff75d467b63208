"""The Python code on the card."""

from __future__ import annotations

from dataclasses import replace

from tests.helpers.run_records import run_record
from whinchat.recipe.task import Task
from whinchat.report.snippet import python_snippet


def test_snippet_is_python_that_holds_instruction_and_model() -> None:
    record = run_record()
    hostile = Task(name="t", labels=("a", "b"), instruction='Say "a"\nor \\ ```b```', user_template="Text: '{text}'")
    record = replace(record, recipe=record.recipe.model_copy(update={"task": hostile}))
    for load_in in ("bfloat16", "nf4"):
        code = python_snippet(record.recipe, load_in, "bfloat16", "someone/adapter", "owner/base")
        compile(code, "snippet", "exec")
        constants = {constant for constant in compile(code, "snippet", "exec").co_consts if isinstance(constant, str)}
        assert {hostile.instruction, hostile.user_template} <= constants
        assert ("BitsAndBytesConfig" in code) == (load_in == "nf4")
