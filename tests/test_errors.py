"""Collected faults: each once, in the order in which they are found."""

from __future__ import annotations

import random
from dataclasses import replace

from kamerton.errors import Fault, FaultCollector


def test_collected_faults_are_those_of_a_search_in_a_list() -> None:
    for seed in range(20):
        choose = random.Random(seed)
        fault = Fault("bad-value", "it is no number", "write a number", "command line")
        rows = [choose.choice((None, 0, 1, 2)) for _ in range(200)]
        faults = [
            replace(fault, code=choose.choice(("bad-value", "unused")), row=row, column=choose.choice((None, "a", "b")))
            for row in rows
        ]
        expected: list[Fault] = []
        for item in faults:
            if item.code != "unused" and item not in expected:
                expected.append(item)
        reported: list[Fault] = []
        collector = FaultCollector(reported.append, ignored=("unused",))
        collector.add(*faults[:100])
        collector.add(*faults[100:])
        assert collector.faults == reported == expected


def test_a_fault_is_not_compared_with_all_before_it() -> None:
    compared = []

    class Noted(Fault):
        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return super().__eq__(other)

        __hash__ = Fault.__hash__

    collector = FaultCollector()
    collector.add(*(Noted("bad-value", f"value {number}", "correct it") for number in range(500)))
    assert len(collector.faults) == 500
    assert len(compared) < 500
