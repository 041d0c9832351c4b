"""The README of an exported model, with code that loads it in plain peft and transformers."""

from __future__ import annotations

from pathlib import Path

_ADAPTER = """\
This is a LoRA adapter of `{name}`, trained with Kamerton. In this folder, with peft and transformers:

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

folder = "."
model = AutoPeftModelForCausalLM.from_pretrained(folder)
model.generation_config = GenerationConfig.from_pretrained(folder)  # the base's may not know every end of an answer
tokenizer = AutoTokenizer.from_pretrained(folder)
{generate}```
"""
_WHOLE = """\
This is a model trained with Kamerton. In this folder, with transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
{generate}```
"""
_CHAT = """\
turns = [{"role": "user", "content": "Where is the source of the Danube?"}]
prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
"""
_TEXT = """\
prompt = tokenizer("Where is the source of the Danube?", return_tensors="pt")
"""
_GENERATE = """\
tokens = model.generate(**prompt, max_new_tokens=64, do_sample=False)
print(tokenizer.decode(tokens[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""
_LOCAL_BASE = """
The base model is in no hub: `adapter_config.json` names the folder where this machine keeps it, `{base}`.
Kamerton makes that folder again where it is missing (`kamerton evaluate model=hub model.name=FOLDER data=…`). For
other machines, write a self-contained model: train with `model.export=merged`, or continue from the code above:

```python
model.merge_and_unload().save_pretrained("merged")
tokenizer.save_pretrained("merged")
```
"""


def write_card(folder: Path, base_name: str | None, base: Path | None, *, chat: bool) -> None:
    """Write README.md of an adapter of `base_name`, or of a full model if it is None.

    `base` is the base model's folder if transformers does not know its name. With `chat`, the example prompt is a chat.
    """
    generate = (_CHAT if chat else _TEXT) + _GENERATE
    text = _WHOLE.format(generate=generate) if base_name is None else _ADAPTER.format(name=base_name, generate=generate)
    if base_name is not None and base is not None:
        text += _LOCAL_BASE.format(base=base)
    (folder / "README.md").write_text(text, encoding="utf-8")
