"""The Python code of the card: use the adapter with transformers and PEFT alone."""

from whinchat.recipe.question import TEXT_SLOT
from whinchat.recipe.schema import Recipe
from whinchat.report.visible_text import visible_json


def python_snippet(recipe: Recipe, load_in: str, compute_dtype: str, adapter: str, base: str) -> str:
    """Return code that generates the answer for one text, with the prompt that the model was trained on.

    Args:
        recipe: the recipe of the training.
        load_in: the dtype of the stored weights, or ``nf4``.
        compute_dtype: the dtype of the computation.
        adapter: folder or hub id of the adapter.
        base: folder or hub id of the base model.
    """
    task, four_bit = recipe.task, load_in == "nf4"
    imports = "AutoModelForCausalLM, AutoTokenizer" + (", BitsAndBytesConfig" if four_bit else "")
    return f"""from peft import PeftModel
from transformers import {imports}

base, adapter = {_quoted(base)}, {_quoted(adapter)}
instruction = {_quoted(task.instruction)}
user_template = {_quoted(task.user_template)}
text = "..."

# The tokenizer that was saved with the adapter has the chat template of the training, its date included.
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = AutoModelForCausalLM.from_pretrained({_loading(recipe, load_in, compute_dtype)})
model = PeftModel.from_pretrained(model, adapter).eval()

# For a chat template without a system role: put instruction, an empty line and the text into one user message.
messages = [
    {{"role": "system", "content": instruction}},
    {{"role": "user", "content": user_template.replace({_quoted(TEXT_SLOT)}, text)}},
]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
# The prompt needs exactly one beginning-of-sequence token; add it unless the chat template has done so.
has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=not has_bos).to(model.device)
output = model.generate(**inputs, max_new_tokens={recipe.evaluate.max_new_tokens}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
"""


def _loading(recipe: Recipe, load_in: str, compute: str) -> str:
    """The arguments that load the base model as in training."""
    layers = recipe.backbone.layers
    depth = f"num_hidden_layers={layers}, " if layers else ""
    if load_in != "nf4":
        return f"base, {depth}dtype={_quoted(load_in)}"
    return f"""
    base,
    {depth}dtype={_quoted(compute)},
    quantization_config=BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant={recipe.backbone.double_quant},
        bnb_4bit_compute_dtype={_quoted(compute)},
    ),
"""


def _quoted(text: str) -> str:
    """The text as a Python literal in double quotes; a JSON string is one."""
    return visible_json(text)
