"""The most likely label without the log-probability of all: best-first search over the trie, many examples at once.

A log-probability only falls along a path, so what is known of a label bounds it: the sum over its edges that are known
is at most what the label will reach, and so is anything that rises with that sum (divided by the label's length, less
a prior of its own). Labels whose bound is below the best complete one are never looked at again. What is left when no
bound is above it is the label that scoring all of them would find; of equal ones, the first.

The first pass runs prompts with their references, which are wanted anyway and bound well where the model is right.
Each later pass opens the most promising nodes of every example that is not decided, twice as many as the pass before:
few passes where almost the whole trie has to be run, few nodes where the model is sure. Keys and values of what ran are
kept, so nothing runs twice; examples that are decided leave the batch.

Source: best-first branch and bound (Land and Doig 1960) over label tokens; de Cao et al. 2021 for the trie.

Shapes: R examples, L labels, N nodes, E edges, S kept tokens of the longest example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kamerton.model.head import Head
from kamerton.model.tree import build_row
from kamerton.model.tree_memory import Following, Memory, Recorded
from kamerton.plan.packing import pack_examples
from kamerton.score.labels.head import token_logprobs
from kamerton.score.labels.question import Answer, Question
from kamerton.score.labels.trie import Candidates, Floats, Ints

_FIRST = 2  # nodes that the second pass opens for each example
_KEPT = 8  # tokens kept for each token of a pass: what is kept is far smaller than what a pass computes with


def search_batches(questions: Sequence[Question], members: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Groups of `members` that are searched together: their first pass fits `max_tokens`, as do all they might keep.

    The candidates of a group are one and the same.
    """
    groups: dict[int, list[int]] = {}
    for member in members:
        groups.setdefault(id(questions[member].candidates), []).append(member)
    lengths = np.zeros(len(questions), dtype=np.int32)
    lengths[list(members)] = [len(questions[member].tokens) - 1 for member in members]
    batches = []
    for group in groups.values():
        candidates = questions[group[0]].candidates
        assert candidates is not None
        nodes = len(candidates.trie.token)
        for micro in pack_examples(group, lengths, max_tokens, "tree", lambda member: questions[member].prompt):
            part = list(micro.examples)
            most = max(1, _KEPT * max_tokens // (int(lengths[part].max()) + nodes))
            pieces = -(-len(part) // most)
            batches += [list(map(int, piece)) for piece in np.array_split(part, pieces)]
    return batches


def search(head: Head, questions: Sequence[Question], max_tokens: int, device: torch.device | str) -> Iterator[Answer]:
    """An answer for each question, without log-probabilities; all have the same candidates."""
    candidates = questions[0].candidates
    assert candidates is not None
    beginning = _Beginning(head, questions, candidates, torch.device(device))
    state, kept = beginning.state, beginning.kept
    width = _FIRST
    while True:
        owner, node = state.choose(kept.rows, width, max_tokens)
        if not len(node):
            break
        kept.leave(owner)
        owner = np.searchsorted(kept.rows, owner)
        kept.follow(head, state, owner, node)
        width *= 2
    predicted = state.predicted()
    for row, (nll, tokens, correct) in enumerate(beginning.references):
        yield Answer(nll, tokens, correct, None, int(predicted[row]))


class _State:
    """What is known of each example's trie: the log-probability of edges, and which nodes have run."""

    def __init__(self, candidates: Candidates, rows: int) -> None:
        trie = candidates.trie
        self.candidates, self.trie = candidates, trie
        self.known = np.zeros((rows, len(trie.predicted) + 1))  # 0 bounds what is not known; the last is no edge
        self.opened = np.zeros((rows, len(trie.token) + 1), dtype=bool)
        self.opened[:, -1] = True  # the source of "no edge"
        self.sources = trie.source[trie.path]  # (L, D)

    def learn(self, rows: Ints, edges: Ints, logprobs: Floats, nodes: Ints) -> None:
        """Log-probabilities of all edges below `nodes` (one for each edge, in order, as are `rows`)."""
        self.known[rows, edges] = logprobs
        self.opened[rows, nodes] = True

    def bounds(self, rows: Ints) -> tuple[Floats, npt.NDArray[np.bool_], Ints]:
        """For each label: what it reaches at most, whether that is known to be it, and the first node to open."""
        reached = self.opened[rows][:, self.sources]  # (R, L, D)
        bound = self.candidates.judge(self.known[rows][:, self.trie.path].sum(axis=-1))
        place = reached.argmin(axis=-1) if reached.shape[-1] else np.zeros(reached.shape[:2], dtype=np.int64)
        complete: npt.NDArray[np.bool_] = np.asarray(reached.all(axis=-1))
        upcoming = np.where(complete, 0, self.sources[np.arange(len(self.sources)), place]) if place.size else place
        return bound, complete, upcoming.astype(np.int64)

    def choose(self, rows: Ints, width: int, room: int) -> tuple[Ints, Ints]:
        """The `width` most promising nodes of each example, fewer where together they are more than `room` tokens.

        With a node come those that follow it without a branch. Returns the example and the node of each, in order.
        """
        bound, complete, upcoming = self.bounds(rows)
        ended = np.where(complete, bound, -np.inf)
        best = ended.max(axis=1, keepdims=True)
        first = np.where(complete.any(axis=1), ended.argmax(axis=1), bound.shape[1])[:, None]
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
        return self._with_runs(rows[row], ranked[row, rank])

    def _with_runs(self, owner: Ints, node: Ints) -> tuple[Ints, Ints]:
        run = self.trie.run[node]
        within = np.arange(run.sum()) - np.repeat(np.cumsum(run) - run, run)
        owner, node = np.repeat(owner, run), np.repeat(node, run) + within
        order = np.lexsort((node, owner))
        return owner[order], node[order]

    def predicted(self) -> Ints:
        """The label of each example, once nothing is left to choose."""
        bound, complete, _ = self.bounds(np.arange(len(self.known)))
        found: Ints = np.where(complete, bound, -np.inf).argmax(axis=1)
        return found


class _Kept:
    """The examples that are not decided: their keys and values, and what stands in each of the S places of them."""

    def __init__(self, memory: Memory, rows: Ints, nodes: Ints, positions: Ints, starts: Ints) -> None:
        self.memory = memory
        self.rows = rows  # which examples
        self.nodes = nodes  # (R, S) the node of each kept token: 0 in the prompt, -1 where nobody looks
        self.positions = positions  # (R, S)
        self.starts = starts  # (R,) the position of the first token after the prompt

    def leave(self, owner: Ints) -> None:
        """Only examples in `owner` stay."""
        stays = np.isin(self.rows, owner)
        if not stays.all():
            device = next(iter(self.memory.kept.values()))[0].device
            self.memory.select(torch.from_numpy(np.flatnonzero(stays)).to(device))
            self.rows, self.nodes = self.rows[stays], self.nodes[stays]
            self.positions, self.starts = self.positions[stays], self.starts[stays]

    def follow(self, head: Head, state: _State, owner: Ints, node: Ints) -> None:
        """Run `node` of the kept examples `owner`, sorted, and learn the edges below."""
        trie = state.trie
        count = np.bincount(owner, minlength=len(self.rows))
        column = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        place = np.zeros((len(self.rows), int(count.max())), dtype=np.int64)
        new, at = np.full_like(place, -1), np.zeros_like(place)
        place[owner, column], new[owner, column] = np.arange(len(owner)), node
        positions = self.starts[owner] + trie.depth[node] - 1
        at[owner, column] = positions
        self.nodes = np.concatenate([self.nodes, new], axis=1)
        self.positions = np.concatenate([self.positions, at], axis=1)
        asking = np.maximum(new, 0)[:, :, None]  # what only fills a place looks at the prompt
        seen = self.nodes[:, None]
        mask = (seen >= 0) & (seen <= asking) & (asking < trie.reach[np.maximum(seen, 0)])
        device = next(iter(self.memory.kept.values()))[0].device
        parts = (owner, column, place, mask, self.positions)
        states = [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts]
        step = Following(self.memory, *states)  # type: ignore[arg-type]
        ids, where = (_long(values, device)[None] for values in (trie.token[node], positions))
        hidden = head.hidden(input_ids=ids, position_ids=where, tree=step)[0]
        which, edge = trie.outgoing(node)
        nobody = torch.zeros(len(edge), dtype=torch.bool, device=device)
        tokens = _long(trie.predicted[edge], device)
        logprob, _ = token_logprobs(head, hidden, _long(which, device), tokens, nobody)
        rows = self.rows[owner]
        state.learn(rows[which], edge, logprob.double().cpu().numpy(), node[which])


class _Beginning:
    """The first pass: prompts and references as one tree, of which keys and values are kept."""

    def __init__(self, head: Head, questions: Sequence[Question], candidates: Candidates, device: torch.device) -> None:
        trie = candidates.trie
        self.state = _State(candidates, len(questions))
        sequences = [question.tokens for question in questions]
        lengths = np.array([len(tokens) - 1 for tokens in sequences])
        starts = np.array([question.start for question in questions])
        row = build_row(sequences, [np.arange(len(tokens)) >= 1 for tokens in sequences], share=True).to(device)
        paths = np.split(row.at.cpu().numpy(), np.cumsum(lengths)[:-1])  # where each sequence's inputs lie
        memory = Memory()
        inputs = {"input_ids": row.input_ids, "position_ids": row.position_ids}
        hidden = head.hidden(**inputs, tree=Recorded(row.tree, memory))[0]
        size = int(lengths.max())
        places, nodes = np.zeros((len(paths), size), dtype=np.int64), np.full((len(paths), size), -1)
        for index, (path, start) in enumerate(zip(paths, starts.tolist(), strict=True)):
            places[index, : len(path)] = path
            walked = trie.walk(sequences[index][start:-1].tolist())
            nodes[index, : start + len(walked)] = [*[0] * start, *walked]
        memory.spread(torch.from_numpy(places).to(device))
        positions = np.broadcast_to(np.arange(size), places.shape)
        self.kept = _Kept(memory, np.arange(len(paths)), nodes, positions, starts)
        self.references = self._learn(head, hidden, questions, paths, nodes, starts)

    def _learn(
        self,
        head: Head,
        hidden: Tensor,
        questions: Sequence[Question],
        paths: Sequence[Ints],
        nodes: Ints,
        starts: Ints,
    ) -> list[tuple[float, int, int]]:
        """The edges below the nodes that ran; returns nll, tokens and correct ones of each reference."""
        trie = self.state.trie
        wanted = [np.flatnonzero(question.targets) for question in questions]
        ran = [  # where a sequence passes through the trie, from the prompt's last token on
            np.arange(start - 1, np.flatnonzero(row >= 0)[-1] + 1) for start, row in zip(starts, nodes, strict=True)
        ]
        row_of, node_of = (
            np.repeat(np.arange(len(ran)), list(map(len, ran))),
            np.concatenate([row[places] for row, places in zip(nodes, ran, strict=True)]),
        )
        which, edge = trie.outgoing(node_of)
        at_node = np.concatenate([path[places] for path, places in zip(paths, ran, strict=True)])
        at = np.concatenate([*(path[w - 1] for path, w in zip(paths, wanted, strict=True)), at_node[which]])
        token = np.concatenate(
            [*(question.tokens[w] for question, w in zip(questions, wanted, strict=True)), trie.predicted[edge]]
        )
        judged = np.arange(len(at)) < len(at) - len(edge)
        columns, position = np.unique(at, return_inverse=True)
        device = hidden.device
        logprob, correct = token_logprobs(
            head,
            hidden[_long(columns, device)],
            _long(position, device),
            _long(token, device),
            torch.from_numpy(judged).to(device),
        )
        found, right = logprob.double().cpu().numpy(), correct.cpu().numpy()
        self.state.learn(row_of[which], edge, found[~judged], node_of[which])
        owner = np.repeat(np.arange(len(wanted)), list(map(len, wanted)))
        nll = np.bincount(owner, -found[judged], len(wanted))
        hits = np.bincount(owner, right[judged], len(wanted))
        return [(float(a), len(w), int(c)) for a, w, c in zip(nll, wanted, hits, strict=True)]


def _long(values: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values).astype(np.int64)).to(device)
