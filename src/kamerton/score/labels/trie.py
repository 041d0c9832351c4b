"""The tokens of a task's labels as a tree: each distinct prefix is a node, each predicted token an edge.

Shapes: L labels, N nodes, E edges, D tokens of the longest label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """Node 0 is the end of the prompt, every other node a token that is input to the model, numbered depth first.

    An edge is a token predicted at its source node; a label's last token is only an edge, unless another label
    continues it. Labels with the same tokens have the same path.
    """

    labels: tuple[Tokens, ...]
    token: Ints  # (N,), -1 for node 0
    depth: Ints  # (N,)
    reach: Ints  # (N,) the end of a node's subtree: m <= n < reach[m] if node m is n or an ancestor of n
    run: Ints  # (N,) the number of nodes from this one on that follow each other without a branch
    first: Ints  # (N + 1,) the edges of node n are first[n] to first[n + 1]
    source: Ints  # (E + 1,) node; the last entry, which stands for "no edge", is N
    predicted: Ints  # (E,) token
    path: Ints  # (L, D) edges of each label, then E
    children: dict[tuple[int, int], int]  # (node, token) → node

    def outgoing(self, nodes: Ints) -> tuple[Ints, Ints]:
        """Return all edges of `nodes`: for each edge the position of its source in `nodes`, and its number."""
        counts = self.first[nodes + 1] - self.first[nodes]
        which = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return which, self.first[nodes][which] + within

    def walk(self, tokens: Sequence[int]) -> list[int]:
        """Return the nodes on the path of `tokens` from node 0, without node 0."""
        nodes, node = [], 0
        for token in tokens:
            if (node, token) not in self.children:
                break
            node = self.children[node, token]
            nodes.append(node)
        return nodes


def build_trie(labels: Sequence[Tokens]) -> Trie:
    """Build the tree of the labels' tokens."""
    children: dict[tuple[int, int], int] = {}
    parent, token, depth = [-1], [-1], [0]
    edges: set[tuple[int, int]] = set()
    paths: list[list[tuple[int, int]]] = [[] for _ in labels]
    for label in sorted(range(len(labels)), key=lambda label: labels[label].astype(">i4").tobytes()):
        node, tokens = 0, labels[label].tolist()
        for position, value in enumerate(tokens):
            edges.add((node, value))
            paths[label].append((node, value))
            if position == len(tokens) - 1:
                break
            if (node, value) not in children:
                children[node, value] = len(parent)
                parent.append(node)
                token.append(value)
                depth.append(position + 1)
            node = children[node, value]
    numbers = {edge: number for number, edge in enumerate(sorted(edges))}
    path = np.full((len(labels), max(map(len, labels), default=0)), len(edges), dtype=np.int64)
    for label, steps in enumerate(paths):
        path[label, : len(steps)] = [numbers[step] for step in steps]
    source = np.array([*(node for node, _ in numbers), len(parent)], dtype=np.int64)
    first = np.searchsorted(source, np.arange(len(parent) + 1))
    reach = np.arange(1, len(parent) + 1)
    for node in range(len(parent) - 1, 0, -1):
        reach[parent[node]] = max(reach[parent[node]], reach[node])
    run = np.ones(len(parent), dtype=np.int64)
    for node in range(len(parent) - 2, -1, -1):
        if first[node + 1] - first[node] == 1 and parent[node + 1] == node:
            run[node] += run[node + 1]
    return Trie(
        labels=tuple(labels),
        token=np.array(token, dtype=np.int64),
        depth=np.array(depth, dtype=np.int64),
        reach=reach,
        run=run,
        first=first,
        source=source,
        predicted=np.array([value for _, value in numbers], dtype=np.int64),
        path=path,
        children=children,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The labels to choose from: the highest (log p(label) - prior) / length wins, the first one of a tie."""

    trie: Trie
    length: Floats  # (L,) above 0
    prior: Floats  # (L,)

    def judge(self, logprobs: Floats) -> Floats:
        """Return the values by which labels are chosen, from their log-probabilities: (..., L)."""
        values: Floats = (logprobs - self.prior) / self.length
        return values
