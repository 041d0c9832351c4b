"""Requests that wait for generation, in a fair order among tenants."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

Job = Mapping[str, Any]  # `GenerationRequest` with id and tenant


class WaitingJobs:
    """Queues by tenant; admits at most `most` answers at once.

    The next request is that of the tenant with the fewest answers; ties go to the tenant admitted longest ago. Requests
    of one tenant keep their order. A tenant without an answer does not wait for others to finish: it is admitted beyond
    `most`, up to twice as many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: dict[str, deque[Job]] = {}  # the tenant admitted last comes last

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, job: Job) -> None:
        """Queue a request."""
        self._queues.setdefault(job.get("tenant", ""), deque()).append(job)

    def drop(self, key: str) -> None:
        """Drop the request with this id."""
        remaining = {tenant: deque(job for job in jobs if job["id"] != key) for tenant, jobs in self._queues.items()}
        self._queues = {tenant: jobs for tenant, jobs in remaining.items() if jobs}

    def next(self, answers: Counter[str]) -> Job | None:
        """Return the next request to admit, None if none waits or all slots are taken; `answers` counts by tenant."""
        if not self._queues:
            return None
        tenant = min(self._queues, key=answers.__getitem__)
        if answers.total() >= (2 * self._most if answers[tenant] == 0 else self._most):
            return None
        jobs = self._queues.pop(tenant)
        job = jobs.popleft()
        if jobs:
            self._queues[tenant] = jobs
        return job
