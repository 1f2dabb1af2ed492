"""Answers the NDT jobs of one domain from its twin (3GPP TS 28.561 NDTFunction). Keeps nothing between."""

from __future__ import annotations

from typing import Protocol

from domain_twin.errors import NotFound
from domain_twin.model.job import Report
from domain_twin.simulation.job_desk import Ticket

__all__ = ["NdtJobs"]


class Twin(Protocol):
    """What jobs are answered from."""

    domain: str


class NdtJobs:
    """The domain's answers to jobs."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin

    async def answer(self, ticket: Ticket) -> Report:
        """What would happen. Raises TwinError."""
        raise NotFound(f"{self._twin.domain}: no engine answers {ticket.job.capability.value} yet")
