"""Near duplicates: clusters of rows that share nearly all their words and word pairs.

A row's shingles are its words and neighbouring word pairs, without case and punctuation. Candidates come from MinHash
signatures (Broder 1997) in bands (locality-sensitive hashing); every candidate pair is then verified by its exact
Jaccard similarity, so there are no false positives; a pair at similarity 0.85 is missed with a chance of 0.1 %.

Template text that occurs in every row is no evidence of similarity: shingles in at least 5 % of the rows (and in at
least 5 rows of a sample) are boilerplate. Two rows are near duplicates only if they are similar with and without it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from kamerton.data.store import Index, Store
from kamerton.data.stored import SCORE, hash64

BANDS, BAND_ROWS = 12, 5  # a pair at similarity s is a candidate with chance 1 - (1 - s^5)^12
WIDTH = BANDS * BAND_ROWS
SAMPLE = 5000  # rows in which boilerplate is searched for
BOILERPLATE_SHARE, BOILERPLATE_ROWS = 0.05, 5
CHUNK = 4096
SEED = 42

PAIRS = 20_000  # candidate pairs verified at once
READ = 65_536  # signatures read at once

Hashes = npt.NDArray[np.uint64]


def near_clusters(store: Store, rows: Index, threshold: float) -> Index:
    """Return the representative row of each row's cluster (a row without near duplicates is its own): [len(rows)]."""
    ordered = np.sort(rows)
    boilerplate = _find_boilerplate(store, rows)
    with tempfile.NamedTemporaryFile() as file:
        signatures = _write_signatures(store, ordered, boilerplate, file)
        cluster = np.arange(len(ordered), dtype=np.int64)
        for band in range(BANDS):
            pairs = _candidate_pairs(signatures.keys(band), cluster)
            for at in range(0, len(pairs), PAIRS):
                likely = signatures.likely(pairs[at : at + PAIRS], threshold)
                cluster = _merge(cluster, _verify(store, ordered, likely, boilerplate, threshold))
    return ordered[cluster][np.searchsorted(ordered, rows)]


def _merge(cluster: Index, pairs: Index) -> Index:
    """Return clusters after merging those of each pair; a cluster is named by its first member."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    if not len(pairs):
        return cluster
    names, ends = np.unique(cluster[pairs], return_inverse=True)
    left, right = ends.reshape(pairs.shape).T
    graph = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    position = np.searchsorted(names, cluster)
    position[position == len(names)] = 0
    merged: Index = np.where(names[position] == cluster, names[first[component]][position], cluster)
    return merged


def _texts(batch: pa.RecordBatch) -> pa.Array:
    """Return prompt and completion of each row as one text, and of preferences the other completions."""
    prompt, extras = (pc.fill_null(batch.column(name), "") for name in ("prompt", "extras"))
    others = pc.if_else(pc.match_substring(extras, SCORE), extras, "")
    return pc.binary_join_element_wise(prompt, batch.column("completion"), others, "\n")


def shingle_hashes(texts: pa.Array) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Return the shingles of all texts as flat hashes, and the offset of each text's first shingle: [texts + 1]."""
    spaced = pc.replace_substring_regex(
        pc.utf8_lower(texts), r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}])", r" \1 "
    )
    words = pc.split_pattern_regex(spaced, r"[^\pL\pN]+")
    flat = pc.list_flatten(words).dictionary_encode()
    starts = words.offsets.to_numpy().astype(np.int64) - int(words.offsets[0].as_py() if len(words.offsets) else 0)
    word_hashes = [hash64(word.encode()) if word else 0 for word in flat.dictionary.to_pylist()]
    hashes = np.array(word_hashes, np.uint64)[flat.indices.to_numpy()]
    is_word = hashes != 0  # splitting leaves an empty word at either end
    row = np.repeat(np.arange(len(texts)), np.diff(starts))[is_word]
    hashes = hashes[is_word]
    with np.errstate(over="ignore"):
        pairs = hashes[:-1] * np.uint64(0x9E3779B97F4A7C15) ^ (hashes[1:] + np.uint64(1))
    same = row[1:] == row[:-1]
    values = np.concatenate([hashes, pairs[same]])
    rows = np.concatenate([row, row[1:][same]])
    order = np.argsort(rows, kind="stable")
    offsets = np.searchsorted(rows[order], np.arange(len(texts) + 1))
    return values[order], offsets


def _find_boilerplate(store: Store, rows: Index) -> Hashes:
    """Return the shingles in at least 5 % of the rows, estimated from the rows with the smallest ids: sorted."""
    sample = np.sort(rows[np.argsort(store.column("id")[rows], kind="stable")[:SAMPLE]])
    by_row: list[Hashes] = []
    for _, batch in _batches(store, sample):
        values, offsets = shingle_hashes(_texts(batch))
        by_row += [np.unique(values[a:b]) for a, b in pairwise(offsets)]
    if not by_row:
        return np.empty(0, np.uint64)
    unique, counts = np.unique(np.concatenate(by_row), return_counts=True)
    frequent: Hashes = unique[counts >= max(BOILERPLATE_ROWS, BOILERPLATE_SHARE * len(sample))]
    return frequent


class Signatures:
    """MinHash signatures in a file: [rows, BANDS * BAND_ROWS] uint32; all 0 for rows with only boilerplate."""

    def __init__(self, path: str, rows: int) -> None:
        self._path, self._rows = path, rows

    def keys(self, band: int) -> Hashes:
        """Return the hash of each row's signature in a band: [rows]; 0 for rows without a signature."""
        result = np.zeros(self._rows, np.uint64)
        with open(self._path, "rb") as file, np.errstate(over="ignore"):
            for at in range(0, self._rows, READ):
                rows = np.fromfile(file, np.uint32, READ * WIDTH).reshape(-1, WIDTH)
                part = rows[:, band * BAND_ROWS : (band + 1) * BAND_ROWS].astype(np.uint64)
                key = result[at : at + len(part)]
                for i in range(BAND_ROWS):
                    key[:] = (key ^ part[:, i]) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(i + 1)
                key[~part.any(axis=1)] = 0
        return result

    def likely(self, pairs: Index, threshold: float) -> Index:
        """Return the pairs whose signatures agree at least as often as at the threshold, less three standard errors."""
        members, position = np.unique(pairs, return_inverse=True)
        size = WIDTH * np.dtype(np.uint32).itemsize
        with open(self._path, "rb", buffering=0) as file:  # with a memory map, surrounding pages would stay resident
            parts = [os.pread(file.fileno(), size, row * size) for row in members.tolist()]
        signatures = np.frombuffer(b"".join(parts), np.uint32).reshape(-1, WIDTH)[position.reshape(pairs.shape)]
        agreement = (signatures[:, 0] == signatures[:, 1]).mean(axis=1)
        error = np.sqrt(threshold * (1 - threshold) / WIDTH)
        likely: Index = pairs[agreement >= threshold - 3 * error - 1e-9]
        return likely


def _write_signatures(store: Store, rows: Index, boilerplate: Hashes, file: Any) -> Signatures:
    import rensa  # type: ignore[import-untyped]

    for _, batch in _batches(store, rows):
        values, offsets = shingle_hashes(_texts(batch))
        specific = ~_in_sorted(values, boilerplate)
        ends = np.concatenate([[0], np.cumsum(specific)])[offsets]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            np.ascontiguousarray(values[specific]), ends.astype(np.uint64), WIDTH, SEED
        )
        part = np.array(matrix.to_rows(), np.uint32).reshape(-1, WIDTH)
        part[np.diff(ends) == 0] = 0
        part.tofile(file)
    file.flush()
    return Signatures(file.name, len(rows))


def _in_sorted(values: Hashes, table: Hashes) -> npt.NDArray[np.bool_]:
    if not len(table):
        return np.zeros(len(values), bool)
    is_in: npt.NDArray[np.bool_] = table[np.minimum(np.searchsorted(table, values), len(table) - 1)] == values
    return is_in


def _candidate_pairs(keys: Hashes, cluster: Index) -> Index:
    """Return pairs of rows with the same key in different clusters: each row with the first and the previous one."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    repeated = np.zeros(len(ranked) + 1, bool)
    repeated[1:-1] = ranked[1:] == ranked[:-1]
    shared = repeated[:-1] | repeated[1:]  # rows whose key occurs twice: few in most data
    order, ranked, repeated = order[shared], ranked[shared], repeated[:-1][shared]
    first = np.flatnonzero(~repeated)[np.cumsum(~repeated) - 1]
    later = np.flatnonzero(repeated & (ranked != 0))
    with_first = np.stack([order[first[later]], order[later]], axis=1)
    with_neighbour = np.stack([order[later - 1], order[later]], axis=1)[first[later] < later - 1]
    pairs = np.concatenate([with_first, with_neighbour])
    apart: Index = pairs[cluster[pairs[:, 0]] != cluster[pairs[:, 1]]]
    return apart


def _verify(store: Store, rows: Index, pairs: Index, boilerplate: Hashes, threshold: float) -> Index:
    """Return the pairs whose exact Jaccard similarity reaches the threshold, with and without boilerplate."""
    if not len(pairs):
        return pairs
    members, position = np.unique(pairs, return_inverse=True)
    position = position.reshape(pairs.shape)
    texts = pa.concat_arrays([_texts(batch) for _, batch in _batches(store, rows[members])])
    values, offsets = shingle_hashes(texts)
    owner = np.repeat(np.arange(len(members)), np.diff(offsets))
    distinct = np.unique(np.stack([owner.astype(np.uint64), values], axis=1), axis=0)
    owner, values = distinct[:, 0].astype(np.int64), distinct[:, 1]
    similar = _jaccard(owner, values, position) >= threshold
    specific = ~_in_sorted(values, boilerplate)
    similar &= _jaccard(owner[specific], values[specific], position) >= threshold
    return pairs[similar]


def _jaccard(owner: Index, values: Hashes, pairs: Index) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of each pair of sets; set k has the `values` whose `owner` (ascending) is k."""
    count = int(pairs.max()) + 1
    starts = np.searchsorted(owner, np.arange(count + 1))
    sizes = np.diff(starts)
    left, right = sizes[pairs[:, 0]], sizes[pairs[:, 1]]
    pair = np.concatenate([np.repeat(np.arange(len(pairs)), left), np.repeat(np.arange(len(pairs)), right)])
    index = np.concatenate([_ranges(starts[pairs[:, 0]], left), _ranges(starts[pairs[:, 1]], right)])
    order = np.lexsort((values[index], pair))
    pair, members = pair[order], values[index][order]
    twice = (pair[1:] == pair[:-1]) & (members[1:] == members[:-1])
    intersection = np.bincount(pair[1:][twice], minlength=len(pairs))
    union = left + right - intersection
    return np.divide(intersection, union, out=np.ones(len(pairs)), where=union > 0)


def _ranges(starts: Index, sizes: Index) -> Index:
    """Return the concatenated ranges start, start + 1, ... (`sizes` numbers each)."""
    total = np.cumsum(sizes)
    return np.arange(total[-1] if len(total) else 0) - np.repeat(total - sizes - starts, sizes)


def _batches(store: Store, rows: Index) -> Iterator[tuple[Index, pa.RecordBatch]]:
    """Yield the given rows (ascending) with their record batch, at most `CHUNK` at a time."""
    start = 0
    for batch in store.scan("prompt", "completion", "extras"):
        low, high = np.searchsorted(rows, [start, start + batch.num_rows])
        for at in range(low, high, CHUNK):
            chosen = rows[at : min(at + CHUNK, high)]
            yield chosen, batch.take(pa.array(chosen - start))
        start += batch.num_rows
