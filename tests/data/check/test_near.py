"""Near duplicates: what shares nearly all words is found, what shares only a template is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kamerton.data.check.near import near_clusters
from kamerton.data.store import Store, StoreWriter
from kamerton.data.stored import row_id
from support.rows import question


def store_of(path: Path, texts: list[str]) -> Store:
    writer = StoreWriter(path, ["rows"])
    for row, text in enumerate(texts, 1):
        writer.add((row_id(text, False, "yes"), text, False, "yes", None, None, row, 0, 0, -1, row, 0))
    writer.close()
    return Store(path)


def clusters(tmp_path: Path, texts: list[str], threshold: float = 0.85) -> list[list[int]]:
    """Positions of the texts that are together."""
    names = near_clusters(store_of(tmp_path / "rows.arrow", texts), np.arange(len(texts)), threshold)
    groups: dict[int, list[int]] = {}
    for i, name in enumerate(names.tolist()):
        groups.setdefault(name, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


LONG = " ".join(question(i)[:-1] for i in range(8))


def test_case_punctuation_and_a_single_word_do_not_matter(tmp_path: Path) -> None:
    texts = [question(i) for i in range(100)]
    texts += [texts[3].upper().replace("?", " !"), LONG, LONG.replace("amber", "umber", 1), LONG + " indeed"]
    assert clusters(tmp_path, texts) == [[3, 100], [101, 102, 103]]


def test_different_texts_are_not_near_duplicates(tmp_path: Path) -> None:
    assert clusters(tmp_path, [question(i) for i in range(500)]) == []


def test_a_shared_instruction_makes_nothing_alike(tmp_path: Path) -> None:
    instruction = "Read what the customer writes and answer with the one label that fits it best of all: "
    texts = [instruction * 3 + f"{word} {i}" for i, word in enumerate(LONG.split() * 4)]
    assert clusters(tmp_path, texts) == []
    twice = [*texts, texts[7] + "."]
    assert clusters(tmp_path, twice) == [[7, len(texts)]]


def test_boilerplate_counts_as_well(tmp_path: Path) -> None:
    intros = ["Please answer the customer in one short and friendly sentence", "Write a long poem on what is given"]
    topics = [" ".join(f"{word}{i}" for word in LONG.split()[:12]) for i in range(40)]
    texts = [f"{intro}: {topic}" for topic in topics for intro in intros]
    assert clusters(tmp_path, texts) == []
    assert clusters(tmp_path, [*texts, texts[4] + "!"]) == [[4, 80]]


def test_texts_without_spaces_between_words(tmp_path: Path) -> None:
    text = "東京都に住んでいる人は毎朝早く起きて電車に乗って会社へ行きます"
    assert clusters(tmp_path, [text, text + "よ", "大阪の天気は今日とても良いので公園で遊びましょう"], 0.8) == [[0, 1]]


def test_order_and_chunks_do_not_matter(tmp_path: Path, monkeypatch: object) -> None:
    texts = [question(i) for i in range(60)] + [question(i).title() for i in range(0, 60, 7)]
    result = {tuple(sorted(texts[i] for i in group)) for group in clusters(tmp_path, texts)}
    assert len(result) == 9
    backwards = texts[::-1]
    monkeypatch.setattr("kamerton.data.check.near.CHUNK", 7)  # type: ignore[attr-defined]
    monkeypatch.setattr("kamerton.data.check.near.PAIRS", 2)  # type: ignore[attr-defined]
    assert {tuple(sorted(backwards[i] for i in group)) for group in clusters(tmp_path, backwards)} == result


def test_the_threshold_is_the_exact_jaccard_similarity(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    first, second = " ".join(words), " ".join([*words[:-1], "x"])
    shingles = [set(zip(text.split(), text.split()[1:], strict=False)) | set(text.split()) for text in (first, second)]
    for each in shingles:
        each |= {"yes", ("last", "yes")}  # the completion, and its pair with the last word
    similarity = (len(shingles[0] & shingles[1]) - 1) / (len(shingles[0] | shingles[1]) + 1)
    assert clusters(tmp_path, [first, second], similarity - 1e-6) == [[0, 1]]
    assert clusters(tmp_path, [first, second], similarity + 1e-6) == []


def test_nothing_and_one_row(tmp_path: Path) -> None:
    assert clusters(tmp_path, []) == []
    assert clusters(tmp_path, ["a"]) == []
