"""Small chat templates in the structures of the families that people fine-tune, and tokenizers for them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kamerton.model.tiny import tiny_tokenizer

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# One call in a turn, without a text beside it; tools in the first user's turn; results by the role ipython.
LLAMA3 = (
    "{{ '<|begin|>' }}{% set given = tools %}{% for m in messages %}"
    "{% if m.role == 'user' and given %}{{ '<|head|>user<|tail|>\n\nFunctions:\n' }}"
    "{% for t in given %}{{ t | tojson(indent=4) + '\n\n' }}{% endfor %}{{ m.content | trim + '<|eot|>' }}"
    "{% elif m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}"
    "{% set f = m.tool_calls[0].function %}{{ '<|head|>assistant<|tail|>\n\n' }}"
    '{{ \'{"name": "\' + f.name + \'", "parameters": \' + (f.arguments | tojson) + "}<|eot|>" }}'
    "{% elif m.role == 'tool' %}{{ '<|head|>ipython<|tail|>\n\n' + (m.content | tojson) + '<|eot|>' }}"
    "{% else %}{{ '<|head|>' + m.role + '<|tail|>\n\n' + m.content | trim + '<|eot|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant<|tail|>\n\n' }}{% endif %}"
)
_QWEN_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% if messages[0].role == 'system' %}"
    "{{ messages[0].content + '\n\n' }}{% endif %}{{ 'Functions:\n<tools>' }}"
    "{% for t in tools %}{{ '\n' + (t | tojson) }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}"
    "{% elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}"
    "{% endif %}"
)
_QWEN_CALLS = (
    "{% for c in m.tool_calls %}{{ '\n<tool_call>\n' + "
    '\'{"name": "\' + c.function.name + \'", "arguments": \' + (c.function.arguments | tojson)'
    " + '}\n</tool_call>' }}{% endfor %}"
)
_QWEN_RESULTS = (
    "{% elif m.role == 'tool' %}{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}"
    "{{ '<|im_start|>user' }}{% endif %}{{ '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
)
QWEN25 = (
    f"{_QWEN_TOOLS}{{% for m in messages %}}{{% if m.role == 'user' or m.role == 'system' and not loop.first %}}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{{ '<|im_start|>assistant' }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
    f"{_QWEN_CALLS}{{{{ '<|im_end|>\n' }}}}"
    f"{_QWEN_RESULTS}{{% endif %}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Reasoning is written in turns after the last user's alone, an empty one too.
QWEN3 = (
    f"{_QWEN_TOOLS}{{% set ns = namespace(last=0) %}}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' or m.role == 'system' and not loop.first %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{% set thought = m.reasoning_content or '' %}{% set text = m.content %}"
    "{% if '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1] %}"
    "{% set text = text.split('</think>')[-1] %}{% endif %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ text.lstrip('\n') }}"
    f"{_QWEN_CALLS}{{{{ '<|im_end|>\n' }}}}"
    f"{_QWEN_RESULTS}{{% endif %}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# Ids of nine letters and digits; the tools stand before the last user's turn, so earlier prompts differ.
MISTRAL = (
    "{{ '<s>' }}{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% if tools and loop.index0 == ns.last %}"
    "{{ '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% elif m.role == 'system' %}{{ '[SYSTEM] ' + m.content + '[/SYSTEM]' }}"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}"
    "{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{{ \'[TOOL_RESULTS] {"content": \' + (m.content | tojson) + \', "call_id": "\' + m.tool_call_id'
    " + '\"}[/TOOL_RESULTS]' }}"
    "{% elif m.tool_calls %}{{ '[TOOL_CALLS] [' }}{% for c in m.tool_calls %}"
    "{% if c.id is not defined or c.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    '{{ \'{"name": "\' + c.function.name + \'", "arguments": \' + (c.function.arguments | tojson)'
    " + ', \"id\": \"' + c.id + '\"}' + (']' if loop.last else ', ') }}{% endfor %}{{ '</s>' }}"
    "{% else %}{{ ' ' + m.content | trim + '</s>' }}{% endif %}{% endfor %}"
)
# No system turn, strictly alternating roles.
GEMMA = (
    "{{ '<bos>' }}{% if messages and messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim"
    " + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# Channels: reasoning of a last turn alone, calls in a channel, another end token for the last turn.
CHANNELS = (
    "{{ '<|start|>system<|message|>Valid channels: analysis, commentary, final.<|end|>' }}"
    "{% if tools %}{{ '<|start|>developer<|message|># Tools\n' + (tools | tojson) + '<|end|>' }}{% endif %}"
    "{% set ns = namespace(name='') %}{% for m in messages %}{% if m.role == 'assistant' and m.tool_calls %}"
    "{% if m.content and m.thinking %}{{ raise_exception('text or thinking, not both') }}{% endif %}"
    "{% if m.content or m.thinking %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + (m.content or m.thinking) + '<|end|>' }}{% endif %}"
    "{% set c = m.tool_calls[0].function %}{% set ns.name = c.name %}"
    "{{ '<|start|>assistant to=functions.' + c.name + '<|channel|>commentary json<|message|>' +"
    " (c.arguments | tojson) + '<|call|>' }}"
    "{% elif m.role == 'assistant' %}{% if m.thinking and loop.last and not add_generation_prompt %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% elif m.role == 'tool' %}{% if not ns.name %}{{ raise_exception('a result without a call') }}{% endif %}"
    "{{ '<|start|>functions.' + ns.name +"
    " ' to=assistant<|channel|>commentary<|message|>' + (m.content | tojson) + '<|end|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
# The prompt opens a thought, and finished turns have none.
OPENED = (
    "{{ '<bos>' }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<|Assistant|>' + m.content.split('</think>')[-1] + '<|eos|>' }}"
    "{% else %}{{ '<|' + m.role + '|>' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
BARE = (  # no control token around turns: texts of neighbouring turns may share tokens
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "qwen25": QWEN25,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "channels": CHANNELS,
    "opened": OPENED,
    "bare": BARE,
}
_CONTROL = """<|begin|> <|head|> <|tail|> <|eot|> <s> </s> [INST] [/INST] <bos> <start_of_turn> <end_of_turn> <|start|>
<|end|> <|message|> <|channel|> <|call|> <|return|> <|Assistant|> <|user|> <|eos|> <|im_start|> <|im_end|>""".split()  # noqa: SIM905


@lru_cache(maxsize=1)
def _merging() -> str:
    """A byte-level BPE with merges, as models have them: what stands beside a text changes its tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    texts = [*TEMPLATES.values(), "a b c yes no yes: no. assistant: user: \n\n\n .\n ?\n\n"] * 5
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens([AddedToken(token, special=True) for token in _CONTROL])
    backend.add_tokens([AddedToken("<think>"), AddedToken("</think>"), AddedToken("<tool_call>")])
    return str(backend.to_str())


def tokenizer(name: str, *, merging: bool = True) -> Any:
    """A tokenizer with one of the templates; its tokens are bytes without `merging`."""
    if not merging:
        result = tiny_tokenizer()
    else:
        backend = Tokenizer.from_str(_merging())
        result = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|eos|>")
    result.chat_template = TEMPLATES[name]
    return result
