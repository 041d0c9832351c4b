"""Formulas over named grades, such as `0.8 * correct + 0.2 * min(short, 1)`."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

MAX_LENGTH = 300  # characters; bounds the depth of the tree too
FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def parse_formula(text: str, names: Collection[str]) -> ast.expr:
    """Return the syntax tree of a formula: numbers, `names`, + - * / ^ and brackets, and `FUNCTIONS`.

    Raises `ValueError` for anything else, and for a part without names that is undefined, such as 1 / 0.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"has {len(text):,} characters, and {MAX_LENGTH:,} is the most")
    try:
        tree = ast.parse(text.replace("^", "**").strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not a formula") from None
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in names and node not in called:
            raise ValueError(f"{node.id!r} is not the name of a grader")
        if not _is_allowed(node):
            part = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise ValueError(f"{part!r} is not allowed: use + - * / ^ and {', '.join(FUNCTIONS)}")
    for node in ast.walk(tree):
        named = any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call) and not named:
            try:
                _value(node, {})
            except (ArithmeticError, TypeError, ValueError) as error:
                raise ValueError(f"{ast.unparse(node)} is never defined: {error}") from None
    return tree


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Call):
        is_function = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        return is_function and bool(node.args) and not node.keywords
    return isinstance(node, (ast.Name, ast.BinOp, ast.UnaryOp, ast.Load, *_OPERATORS))


def evaluate(tree: ast.expr, values: Mapping[str, float]) -> float:
    """Return the value of a parsed formula. Raises `ValueError` if it is undefined for these values."""
    try:
        value = float(_value(tree, values))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{ast.unparse(tree)} is undefined for {dict(values)}: {error}") from None
    if not math.isfinite(value):
        raise ValueError(f"{ast.unparse(tree)} is {value} for {dict(values)}")
    return value


def _value(node: Any, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_value(node.operand, values))
    arguments = [_value(argument, values) for argument in node.args]
    return FUNCTIONS[node.func.id](*arguments)
