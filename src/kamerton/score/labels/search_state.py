"""The state of a search for the best labels: known log-probabilities, bounds, and the nodes to open next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kamerton.score.labels.trie import Candidates, Floats, Ints


class SearchState:
    """The search state of each example: known log-probabilities of edges, and opened nodes."""

    def __init__(self, candidates: Candidates, rows: int) -> None:
        trie = candidates.trie
        self.candidates, self.trie = candidates, trie
        self.logprobs = np.zeros((rows, len(trie.predicted) + 1))  # unknown ones have the bound 0; the last is no edge
        self.opened = np.zeros((rows, len(trie.token) + 1), dtype=bool)
        self.opened[:, -1] = True  # the source of "no edge"
        self.sources = trie.source[trie.path]  # (L, D)

    def learn(self, rows: Ints, edges: Ints, logprobs: Floats, nodes: Ints) -> None:
        """Store the log-probabilities of edges with their source `nodes` in the examples `rows`, one for each edge."""
        self.logprobs[rows, edges] = logprobs
        self.opened[rows, nodes] = True

    def bounds(self, rows: Ints) -> tuple[Floats, npt.NDArray[np.bool_], Ints]:
        """Return for each label its upper bound, whether the bound is exact, and the next node to open."""
        reached = self.opened[rows][:, self.sources]  # (R, L, D)
        bound = self.candidates.judge(self.logprobs[rows][:, self.trie.path].sum(axis=-1))
        step = reached.argmin(axis=-1) if reached.shape[-1] else np.zeros(reached.shape[:2], dtype=np.int64)
        complete: npt.NDArray[np.bool_] = np.asarray(reached.all(axis=-1))
        upcoming = np.where(complete, 0, self.sources[np.arange(len(self.sources)), step]) if step.size else step
        return bound, complete, upcoming.astype(np.int64)

    def choose(self, rows: Ints, width: int, room: int) -> tuple[Ints, Ints]:
        """Choose the `width` most promising nodes of each example, fewer if they exceed `room` tokens together.

        Each node includes those that follow it without a branch. Returns example and node of each, sorted.
        """
        bound, complete, upcoming = self.bounds(rows)
        final = np.where(complete, bound, -np.inf)
        best = final.max(axis=1, keepdims=True)
        first = np.where(complete.any(axis=1), final.argmax(axis=1), bound.shape[1])[:, None]
        order = np.arange(bound.shape[1])
        live = ~complete & ((bound > best) | ((bound == best) & (order < first)))
        promise = np.full((len(rows), len(self.trie.token)), -np.inf)
        row, label = np.nonzero(live)
        np.maximum.at(promise, (row, upcoming[row, label]), bound[row, label])
        ranked = np.argsort(-promise, axis=1, kind="stable")[:, :width]
        chosen = np.take_along_axis(promise, ranked, axis=1) > -np.inf
        tokens = (self.trie.run[ranked] * chosen).sum(axis=0).cumsum()
        ranks = max(1, int((tokens <= room).sum()))
        row, rank = np.nonzero(chosen[:, :ranks])
        owner, node = rows[row], ranked[row, rank]
        run = self.trie.run[node]
        within = np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
        owner, node = np.repeat(owner, run), np.repeat(node, run) + within
        order = np.lexsort((node, owner))
        return owner[order], node[order]

    def predicted(self) -> Ints:
        """Return the predicted label of each example, after the search."""
        bound, complete, _ = self.bounds(np.arange(len(self.logprobs)))
        labels: Ints = np.where(complete, bound, -np.inf).argmax(axis=1)
        return labels
