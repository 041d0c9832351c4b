"""Building the node of a class once, to find which of its arguments is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from kamerton.config.targets import ALLOWED, is_allowed
from kamerton.errors import Fault

Node = dict[str, Any]


def build_part(key: str, node: Node, build: Callable[[Node], Any]) -> tuple[list[Fault], list[Any]]:
    """Build `node`; return its faults and, in a list, the instance."""
    instances: list[Any] = []
    faults = constructor_faults(key, node, lambda node: instances.append(build(node)))
    return faults, [] if faults else instances


def constructor_faults(key: str, node: Node, build: Callable[[Node], Any]) -> list[Fault]:
    """Return a fault if `build` fails, located at the one argument without which it succeeds, if there is one."""
    try:
        build(node)
    except Exception as error:  # constructors may raise anything
        causes = [name for name in node if name != "_target_" and _builds({**node}, name, build)]
        column = f"{key}.{causes[0]}" if len(causes) == 1 else key
        value = f"{column} is {node[causes[0]]!r}" if len(causes) == 1 else f"{key} cannot be built"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return [Fault("config.value", f"{value}: {reason}", f"correct the value of {column}", column=column)]
    return []


def _builds(node: Node, without: str, build: Callable[[Node], Any]) -> bool:
    del node[without]
    try:
        build(node)
    except Exception:
        return False
    return True


def is_node(node: Any) -> TypeGuard[Node]:
    """Return whether the class is Kamerton's or a framework's; building a custom class might have side effects."""
    return isinstance(node, Mapping) and is_allowed(node.get("_target_"), ALLOWED)
