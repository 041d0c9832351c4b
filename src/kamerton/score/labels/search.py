"""Find the most likely label without scoring all: best-first search over the trie, for many examples at once.

A log-probability only falls along a path, so the sum over a label's known edges is an upper bound of its
log-probability, and of any increasing function of it (divided by the label's length, minus a prior). Labels with a
bound below the best complete label are pruned. When no bound is above it, the search ends with the label that scoring
all labels would find, the first one of a tie.

The first pass runs prompts with their references, which are needed anyway and bound well if the model is correct. Each
later pass opens the most promising nodes of every undecided example, twice as many as the pass before: few passes if
almost all nodes have to be run, few nodes if the model is certain. Keys and values are cached, so nothing runs twice;
decided examples leave the batch.

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
from kamerton.score.labels.search_state import SearchState
from kamerton.score.labels.trie import Candidates, Ints

_FIRST_WIDTH = 2  # nodes that the second pass opens for each example
_CACHED = 8  # cached tokens per token of a pass: a cached token takes far less memory than a computed one


def search_batches(questions: Sequence[Question], members: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group `members` that are searched together, with the same candidates.

    The first pass of a group fits `max_tokens`, and so do all tokens that it might cache.
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
            batch = list(micro.examples)
            largest = max(1, _CACHED * max_tokens // (int(lengths[batch].max()) + nodes))
            parts = -(-len(batch) // largest)
            batches += [list(map(int, part)) for part in np.array_split(batch, parts)]
    return batches


def search(head: Head, questions: Sequence[Question], max_tokens: int, device: torch.device | str) -> Iterator[Answer]:
    """Yield an answer for each question, without log-probabilities; all questions have the same candidates."""
    candidates = questions[0].candidates
    assert candidates is not None
    first = _FirstPass(head, questions, candidates, torch.device(device))
    state, cache = first.state, first.cache
    width = _FIRST_WIDTH
    while True:
        owner, node = state.choose(cache.rows, width, max_tokens)
        if not len(node):
            break
        cache.keep(owner)
        owner = np.searchsorted(cache.rows, owner)
        cache.follow(head, state, owner, node)
        width *= 2
    predicted = state.predicted()
    for row, (nll, tokens, correct) in enumerate(first.references):
        yield Answer(nll, tokens, correct, None, int(predicted[row]))


class _Cache:
    """Keys and values of the undecided examples, with node and position of each of their S cached tokens."""

    def __init__(self, memory: Memory, rows: Ints, nodes: Ints, positions: Ints, starts: Ints) -> None:
        self.memory = memory
        self.rows = rows  # the examples
        self.nodes = nodes  # (R, S) the node of each cached token: 0 in the prompt, -1 for masked ones
        self.positions = positions  # (R, S)
        self.starts = starts  # (R,) the position of the first token after the prompt

    def keep(self, owner: Ints) -> None:
        """Drop all examples but those in `owner`."""
        stays = np.isin(self.rows, owner)
        if not stays.all():
            device = next(iter(self.memory.kept.values()))[0].device
            self.memory.select(torch.from_numpy(np.flatnonzero(stays)).to(device))
            self.rows, self.nodes = self.rows[stays], self.nodes[stays]
            self.positions, self.starts = self.positions[stays], self.starts[stays]

    def follow(self, head: Head, state: SearchState, owner: Ints, node: Ints) -> None:
        """Run the nodes `node` of the examples `owner` (indices into `rows`, sorted) and learn their edges."""
        trie = state.trie
        count = np.bincount(owner, minlength=len(self.rows))
        column = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        index = np.zeros((len(self.rows), int(count.max())), dtype=np.int64)
        new, at = np.full_like(index, -1), np.zeros_like(index)
        index[owner, column], new[owner, column] = np.arange(len(owner)), node
        positions = self.starts[owner] + trie.depth[node] - 1
        at[owner, column] = positions
        self.nodes = np.concatenate([self.nodes, new], axis=1)
        self.positions = np.concatenate([self.positions, at], axis=1)
        query = np.maximum(new, 0)[:, :, None]  # padding attends to the prompt
        key = self.nodes[:, None]
        mask = (key >= 0) & (key <= query) & (query < trie.reach[np.maximum(key, 0)])
        device = next(iter(self.memory.kept.values()))[0].device
        parts = (owner, column, index, mask, self.positions)
        states = [torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in parts]
        step = Following(self.memory, *states)  # type: ignore[arg-type]
        ids, where = (_long(values, device)[None] for values in (trie.token[node], positions))
        hidden = head.hidden(input_ids=ids, position_ids=where, tree=step)[0]
        which, edge = trie.outgoing(node)
        judged = torch.zeros(len(edge), dtype=torch.bool, device=device)
        tokens = _long(trie.predicted[edge], device)
        logprob, _ = token_logprobs(head, hidden, _long(which, device), tokens, judged)
        rows = self.rows[owner]
        state.learn(rows[which], edge, logprob.double().cpu().numpy(), node[which])


class _FirstPass:
    """The first pass: prompts and references as one tree, with cached keys and values."""

    def __init__(self, head: Head, questions: Sequence[Question], candidates: Candidates, device: torch.device) -> None:
        trie = candidates.trie
        self.state = SearchState(candidates, len(questions))
        sequences = [question.tokens for question in questions]
        lengths = np.array([len(tokens) - 1 for tokens in sequences])
        starts = np.array([question.start for question in questions])
        row = build_row(sequences, [np.arange(len(tokens)) >= 1 for tokens in sequences], share=True).to(device)
        paths = np.split(row.at.cpu().numpy(), np.cumsum(lengths)[:-1])  # positions of each sequence's inputs
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
        self.cache = _Cache(memory, np.arange(len(paths)), nodes, positions, starts)
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
        """Learn the edges of the nodes that ran; return nll, tokens and correct tokens of each reference."""
        trie = self.state.trie
        targets = [np.flatnonzero(question.targets) for question in questions]
        in_trie = [  # positions of a sequence in the trie, from the prompt's last token on
            np.arange(start - 1, np.flatnonzero(row >= 0)[-1] + 1) for start, row in zip(starts, nodes, strict=True)
        ]
        row_of = np.repeat(np.arange(len(in_trie)), list(map(len, in_trie)))
        node_of = np.concatenate([row[places] for row, places in zip(nodes, in_trie, strict=True)])
        which, edge = trie.outgoing(node_of)
        at_node = np.concatenate([path[places] for path, places in zip(paths, in_trie, strict=True)])
        at_target = [path[target - 1] for path, target in zip(paths, targets, strict=True)]
        at = np.concatenate([*at_target, at_node[which]])
        target_tokens = [question.tokens[target] for question, target in zip(questions, targets, strict=True)]
        token = np.concatenate([*target_tokens, trie.predicted[edge]])
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
        logprobs, is_best = logprob.double().cpu().numpy(), correct.cpu().numpy()
        self.state.learn(row_of[which], edge, logprobs[~judged], node_of[which])
        owner = np.repeat(np.arange(len(targets)), list(map(len, targets)))
        nll = np.bincount(owner, -logprobs[judged], len(targets))
        hits = np.bincount(owner, is_best[judged], len(targets))
        return [(float(a), len(target), int(c)) for a, target, c in zip(nll, targets, hits, strict=True)]


def _long(values: npt.NDArray[np.integer], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values).astype(np.int64)).to(device)
