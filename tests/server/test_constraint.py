"""Constraints on tokens: whatever tokens are chosen among the allowed ones, the answer fits its schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from kamerton.model.tiny import tiny_tokenizer
from kamerton.server.generation.constraint import Constraint, ConstraintError, grammar_tokenizer
from kamerton.server.generation.grammar import json_grammar, schema_problem
from support.templates import tokenizer

CPU = torch.device("cpu")
TOKENIZERS = [tiny_tokenizer(), tokenizer("qwen3")]
GRAMMAR_TOKENIZERS = [grammar_tokenizer(each, {each.eos_token_id}) for each in TOKENIZERS]

Schema = dict[str, Any]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.one_of(st.none(), st.booleans(), st.integers(-9, 99), texts, st.lists(texts, max_size=2))
integers = st.integers(-999, 999).map(lambda low: {"type": "integer", "minimum": low, "maximum": low + 120})
leaves: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": "é🐈\n"}, {"$ref": "#/$defs/shared"}]),
    st.sampled_from(["date", "uuid", "email"]).map(lambda name: {"type": "string", "format": name}),
    st.just({"type": "string", "pattern": "^[a-ż]{2,4}$"}),
    st.just({"type": "number", "minimum": -3, "exclusiveMaximum": 12.5}),
    st.integers(0, 3).map(lambda least: {"type": "string", "minLength": least, "maxLength": least + 3}),
    st.lists(values, min_size=1, max_size=4).map(lambda options: {"enum": options}),
    integers,
)


def nested(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    """Arrays, objects with optional keys, and alternatives."""

    def to_object(properties: dict[str, Schema], required: int) -> Schema:
        names = list(properties)
        return {
            "type": "object",
            "properties": properties,
            "required": names[: required % (len(names) + 1)],
            "additionalProperties": False,
        }

    arrays = st.builds(
        lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3)
    )
    objects = st.builds(to_object, st.dictionaries(texts, inner, max_size=3), st.integers(0, 9))
    return st.one_of(arrays, objects, st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}))


schemas = st.recursive(leaves, nested, max_leaves=5).map(
    lambda schema: {"$defs": {"shared": {"enum": ["a", 1]}}} | schema
)


def write(constraint: Constraint, which: int, seed: int) -> str:
    """The text of tokens drawn evenly from those that are allowed, until an end token or the end of the grammar."""
    generator, made = np.random.default_rng(seed), []
    while not constraint.complete:
        allowed = np.flatnonzero(constraint.allowed(len(TOKENIZERS[which]) + 7, CPU).numpy())
        made.append(int(generator.choice(allowed)))
        assert constraint.add(made[-1]) == ""
        if made[-1] == TOKENIZERS[which].eos_token_id:
            break
    return str(TOKENIZERS[which].decode(made, skip_special_tokens=True))


@settings(max_examples=60)
@given(schemas, st.integers(0, 1), st.integers(0, 99))
def test_any_allowed_tokens_give_json_that_fits_the_schema(schema: Schema, which: int, seed: int) -> None:
    assert schema_problem(schema) is None
    text = write(Constraint(GRAMMAR_TOKENIZERS[which], json_grammar(schema, spaced=False)), which, seed)
    jsonschema_rs.validator_for(schema).validate(json.loads(text))


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"uniqueItems": True}, "", "unsupported keyword uniqueItems"),
        ({"properties": {"a": {"items": {"not": {}, "if": {}}}}}, "properties.a.items", "unsupported keywords if, not"),
        ({"anyOf": [{}, {"format": "colour", "type": "string"}]}, "anyOf.1", "Unknown format: colour"),
        ({"properties": {"a": {"minItems": -1}}}, "properties.a.minItems", "less than the minimum"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "properties.a", "does not exist"),
        ({"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}, "properties.a", "look-around"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "", "'a' is unsatisfiable"),
        ({"$schema": "mine"}, "$schema", "mine"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "", "unsupported keyword not"),
        (
            {"$defs": {"b": {"properties": {"c": {"contains": {}}}}}, "properties": {"a": {"$ref": "#/$defs/b"}}},
            "$defs.b.properties.c",
            "unsupported keyword contains",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_reported_with_its_place(schema: Schema, place: str, reason: str) -> None:
    problem = schema_problem(schema)
    assert problem is not None
    assert problem[0] == place
    assert reason in problem[1]


def test_reasoning_is_free_and_ends_before_the_grammar_begins() -> None:
    grammar = json_grammar({"const": 5}, spaced=True)
    opened = Constraint(GRAMMAR_TOKENIZERS[1], grammar, after="</think>")
    begins = TOKENIZERS[1].convert_tokens_to_ids("<think>")
    may_open = Constraint(GRAMMAR_TOKENIZERS[1], grammar, opening=begins, closing="</think>")
    size = len(TOKENIZERS[1])
    assert may_open.allowed(size, CPU)[begins]
    may_open.add(begins)
    for constraint in (opened, may_open):
        for token in TOKENIZERS[1].encode('{"a" é </thin', add_special_tokens=False):
            assert constraint.allowed(size, CPU).sum() == size - 1  # all but the end
            assert constraint.add(token) == ""
        for token in TOKENIZERS[1].encode("k>\n\n", add_special_tokens=False):
            assert constraint.add(token) == ""
        assert not constraint.allowed(size, CPU)[begins]
        assert constraint.add(TOKENIZERS[1].encode("5")[0]) == ""
    assert opened.add(TOKENIZERS[1].encode("a")[0]) != ""


def test_a_tokenizer_without_bytes_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ConstraintError):
        grammar_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="[UNK]"), {0})
