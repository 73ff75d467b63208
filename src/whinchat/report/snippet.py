"""The Python code of the card: the adapter with plain transformers and PEFT, without whinchat."""

from __future__ import annotations

import json

from whinchat.recipe.schema import TEXT_SLOT, Recipe


def python_snippet(recipe: Recipe, load_in: str, compute_dtype: str, adapter: str, base: str) -> str:
    """Code that answers one text freely, with the prompt the model was trained on.

    Args:
        recipe: how the adapter was trained.
        load_in, compute_dtype: how the base model was held and multiplied.
        adapter, base: what ``from_pretrained`` takes.
    """
    task, four_bit = recipe.task, load_in == "nf4"
    imports = "AutoModelForCausalLM, AutoTokenizer" + (", BitsAndBytesConfig" if four_bit else "")
    return f"""from peft import PeftModel
from transformers import {imports}

base, adapter = {_quoted(base)}, {_quoted(adapter)}
instruction = {_quoted(task.instruction)}
user_template = {_quoted(task.user_template)}
text = "..."

tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained({_loading(recipe, load_in, compute_dtype)})
model = PeftModel.from_pretrained(model, adapter).eval()

# If the chat template has no system role, instruction, an empty line and text make one user turn.
messages = [
    {{"role": "system", "content": instruction}},
    {{"role": "user", "content": user_template.replace({_quoted(TEXT_SLOT)}, text)}},
]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
# Exactly one beginning-of-sequence token: the template's own, or else the tokenizer's.
has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=not has_bos).to(model.device)
output = model.generate(**inputs, max_new_tokens={recipe.evaluate.max_new_tokens}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""


def _loading(recipe: Recipe, load_in: str, compute: str) -> str:
    """Arguments that hold the base model as it was held in training."""
    if load_in != "nf4":
        return f"base, dtype={_quoted(load_in)}"
    return f"""
    base,
    dtype={_quoted(compute)},
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant={recipe.backbone.double_quant},
        bnb_4bit_compute_dtype={_quoted(compute)},
    ),
"""


def _quoted(text: str) -> str:
    """A Python literal in double quotes; every JSON string is one."""
    return json.dumps(text, ensure_ascii=False)
