"""Arguments of calls fit the schemas of their functions, in the form in which each family of models writes calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import numpy as np
import openai
import pytest
import torch

from kamerton.data.encode.tokenize import StretchTokenizer
from kamerton.data.example import Message
from kamerton.score.calls import parse_answer
from kamerton.server.generation.call_form import CallForm, call_form
from kamerton.server.generation.constraint import Constraint, ConstraintError, grammar_tokenizer
from kamerton.server.generation.grammar import calls_grammar, json_grammar
from support.in_process import InProcess, client_of
from support.templates import TEMPLATES, tokenizer

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 3}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
PLACE = {"type": "object", "properties": {"at": {"enum": ["é", 2]}}, "required": ["at"], "additionalProperties": False}
SCHEMAS: dict[str, Any] = {"get_weather": CITY, "get_time": PLACE}


def tools(strict: bool = False) -> list[Any]:
    named = [{"name": name, "parameters": schema, "strict": strict} for name, schema in SCHEMAS.items()]
    return [{"type": "function", "function": function} for function in named]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with client_of(InProcess(), tmp_path_factory.mktemp("outputs")) as result:
        yield result


def ask(client: openai.OpenAI, **more: Any) -> Any:
    own: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Go!"}], "seed": 2}
    return client.chat.completions.create(**own | {"tools": tools(), "max_tokens": 300} | more).choices[0]


@pytest.mark.parametrize("choice", ["required", "get_time"])
def test_forced_calls_of_random_weights_fit_their_schema(client: openai.OpenAI, choice: str) -> None:
    named = {"type": "function", "function": {"name": choice}}
    answer = ask(client, tool_choice="required" if choice == "required" else named, parallel_tool_calls=False)
    assert answer.finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls
    assert choice in ("required", call.function.name)
    jsonschema_rs.validator_for(SCHEMAS[call.function.name]).validate(json.loads(call.function.arguments))


def test_schemas_of_functions_that_cannot_be_used_are_refused_if_strict(client: openai.OpenAI) -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer", "not": {}}}}}
    for strict in (True, False):
        for choice in ("auto", "required"):
            more = {"tools": [{"type": "function", "function": function | {"strict": strict}}], "tool_choice": choice}
            if not strict:  # the keyword is ignored
                assert ask(client, **more, max_tokens=60).finish_reason
                continue
            with pytest.raises(openai.BadRequestError, match=r"at properties\.a: unsupported keyword not") as caught:
                ask(client, **more)
            assert caught.value.param == "tools.0.function.parameters"


def form_of(name: str) -> tuple[Any, Any, CallForm]:
    """A tokenizer with this template, its tokenizer for grammars, and the form of its calls."""
    of_model = tokenizer(name)
    vocabulary = of_model.get_vocab()
    ends = {vocabulary[end] for end in ("<|im_end|>", "<|eot|>", "</s>", "<end_of_turn>", "<|call|>", "<|eos|>")}
    of_grammar = grammar_tokenizer(of_model, ends)
    served: Any = SimpleNamespace(stretches=StretchTokenizer(of_model), ends=ends, tokenizer=of_model)
    form = call_form(served, of_grammar, [Message("user", "hi")], json.dumps(tools()))
    assert form is not None
    return of_model, of_grammar, form


def rules(form: CallForm, **more: Any) -> str:
    return calls_grammar(form.rules({name: (schema, False) for name, schema in SCHEMAS.items()}, **more))


def draw(constraint: Constraint, size: int, generator: np.random.Generator) -> int:
    """A token that is allowed, as probable as any other."""
    allowed = constraint.allowed(size, torch.device("cpu"))
    assert allowed is not None
    token = int(generator.choice(np.flatnonzero(allowed.numpy())))
    assert constraint.add(token) == ""
    return token


@pytest.mark.parametrize("name", TEMPLATES)
def test_any_allowed_tokens_are_calls_in_the_form_of_the_template(name: str) -> None:
    of_model, of_grammar, form = form_of(name)
    for seed in range(3):
        generator, constraint, made = np.random.default_rng(seed), Constraint(of_grammar, rules(form, single=False)), []
        while not constraint.complete and not (made and made[-1] in of_grammar.eos_tokens):
            made.append(draw(constraint, len(of_model), generator))
        text = of_model.decode([token for token in made if token not in of_grammar.eos_tokens])
        calls = parse_answer(text, json.dumps(tools()), thinking=name == "opened").calls
        assert calls
        assert len(calls) == 1 or form.between is not None
        for call in calls:
            jsonschema_rs.validator_for(SCHEMAS[call.name]).validate(call.arguments)


@pytest.mark.parametrize("name", ["qwen3", "mistral", "channels"])
def test_calls_within_a_free_answer_fit_once_their_tag_is_written(name: str) -> None:
    of_model, of_grammar, form = form_of(name)
    tag = form.tag()
    assert tag is not None
    constraint = Constraint(of_grammar, rules(form, single=False, tag=tag), after=tag, repeats=True)
    generator, cpu = np.random.default_rng(1), torch.device("cpu")
    for _ in range(2):
        for token in of_model.encode("Well, é {", add_special_tokens=False):
            assert constraint.allowed(600, cpu) is None
            assert constraint.add(token) == ""
        for token in of_model.encode(tag, add_special_tokens=False):
            assert constraint.add(token) == ""
        made = []
        while constraint.allowed(600, cpu) is not None and not (made and made[-1] in of_grammar.eos_tokens):
            made.append(draw(constraint, len(of_model), generator))
        answer = f"{tag}{of_model.decode([token for token in made if token not in of_grammar.eos_tokens])}"
        calls = parse_answer(answer, json.dumps(tools())).calls
        assert calls
        for call in calls:
            jsonschema_rs.validator_for(SCHEMAS[call.name]).validate(call.arguments)


def test_a_template_that_writes_arguments_between_tags_has_no_form() -> None:
    of_model, of_grammar, _ = form_of("qwen3")
    before, _, rest = TEMPLATES["qwen3"].partition("{% for c in m.tool_calls %}")
    of_model.chat_template = (
        f"{before}{{% for c in m.tool_calls %}}{{{{ '\\n<tool_call>\\n<function=' + c.function.name + '>\\n' }}}}"
        "{% for key, value in c.function.arguments | items %}{{ '<parameter=' + key + '>\\n' + "
        "(value if value is string else value | tojson) + '\\n</parameter>\\n' }}{% endfor %}"
        f"{{{{ '</function>\\n</tool_call>' }}}}{{% endfor %}}{rest.partition('{% endfor %}')[2]}"
    )
    served: Any = SimpleNamespace(stretches=StretchTokenizer(of_model), ends=set(), tokenizer=of_model)
    assert call_form(served, of_grammar, [Message("user", "hi")], json.dumps(tools())) is None


def test_an_answer_is_json_or_calls_if_both_are_possible() -> None:
    of_model, of_grammar, form = form_of("qwen25")
    calls = form.rules({name: (schema, False) for name, schema in SCHEMAS.items()}, single=True)
    grammar = json_grammar(PLACE, spaced=False, calls=calls)
    called = '<tool_call>\n{"name": "get_time", "arguments": {"at":2}}\n</tool_call>'
    for text in ('{"at": "é"}', called):
        assert Constraint(of_grammar, grammar, prefix=of_model.encode(text, add_special_tokens=False)).complete
    for text in ('{"at": 3', called.replace("2", "3"), called.replace("time", "rest")):
        with pytest.raises(ConstraintError):
            Constraint(of_grammar, grammar, prefix=of_model.encode(text, add_special_tokens=False))
