"""The Learning service in front of a broker or an agent: messages in and out, errors as statuses, bounds.

A `LearningFace` answers in model types; broker and agent each have one, and each decides who may ask what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, Protocol

import grpc

from domain_twin.errors import OverCapacity, TwinError, Unreachable
from domain_twin.learning.run import Run
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Task
from domain_twin.trust.refusal import refuse
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc
from federation.wire import learning as wire
from federation.wire.learning import ElementForecast, RolledBack

__all__ = ["LearningFace", "LearningService"]

log = logging.getLogger(__name__)

PIECE: Final = 256 << 10
MAX_ANSWER_S: Final = 150.0
MAX_WATCHERS: Final = 64
_MOST_LISTED_BYTES: Final = 8 << 20


class LearningFace(Protocol):
    """Answers of a broker or an agent: a method for each RPC. Each raises TwinError for what it cannot do."""

    async def start(self, task: Task, domains: Sequence[str]) -> Run:
        """Take a training in."""

    async def run(self, identity: str) -> Run:
        """One training, by its id or the beginning of it."""

    async def runs(self) -> Sequence[Run]:
        """All trainings, newest first."""

    def watch(self, identity: str) -> AsyncIterator[Run]:
        """A training now and at every change, until it has ended."""

    async def stop(self, identity: str) -> Run:
        """Have a training end without a model."""

    async def models(self, model: str) -> Sequence[Kept]:
        """Versions, newest first; of one model or (empty) of all."""

    async def model(self, model: str, version: int, *, arrays: bool, own: bool) -> tuple[Kept, bytes]:
        """One version (0: the one in service), with its arrays as they are kept where asked for; or, with
        `own`, a generator's with this domain's statistics of itself."""

    async def roll_back(self, model: str, version: int) -> RolledBack:
        """Put an earlier version back into service."""

    async def forecasts(
        self, model: str, elements: Sequence[str], *, hindsight: bool
    ) -> tuple[Sequence[ElementForecast], int]:
        """What the model in service foretells, or would have over its holdout, and its version."""


class LearningService(fedtwin_pb2_grpc.LearningServicer):  # type: ignore[misc]  # generated
    """Serves a LearningFace over gRPC."""

    def __init__(self, face: LearningFace) -> None:
        self._face = face
        self._watchers = 0

    async def StartRun(self, request: Any, context: Any) -> Any:
        """Take a training in and answer with what it has become."""

        async def work() -> Any:
            run = await self._face.start(Task.from_json(request.task), tuple(request.domains))
            return pb.StartRunResponse(run=wire.encode_run(run))

        return await _answer(context, work)

    async def GetRun(self, request: Any, context: Any) -> Any:
        """How far a training is."""

        async def work() -> Any:
            return pb.GetRunResponse(run=wire.encode_run(await self._face.run(request.id)))

        return await _answer(context, work)

    async def ListRuns(self, request: Any, context: Any) -> Any:
        """All trainings, newest first, without their logs."""

        async def work() -> Any:
            answer, room = pb.ListRunsResponse(), _MOST_LISTED_BYTES
            for run in await self._face.runs():
                message = wire.encode_run(run, log=False)
                room -= message.ByteSize() + 16
                if room < 0:  # older ones have to be asked for by their ids
                    break
                answer.runs.append(message)
            return answer

        return await _answer(context, work)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A training now, then what is new of it at every change; the log's entries are each sent once."""
        if self._watchers >= MAX_WATCHERS:
            await _abort(context, OverCapacity(f"{self._watchers} watchers are served; try again later"))
        self._watchers += 1
        sent = 0
        try:
            async with aclosing(self._face.watch(request.id)) as watching:  # type: ignore[type-var]
                async for run in watching:
                    news = replace(run, log=run.log[sent:])
                    sent = len(run.log)
                    yield pb.WatchRunResponse(run=wire.encode_run(news))
        except Exception as error:
            await _abort(context, error)
        finally:
            self._watchers -= 1

    async def StopRun(self, request: Any, context: Any) -> Any:
        """Have a training end."""

        async def work() -> Any:
            return pb.StopRunResponse(run=wire.encode_run(await self._face.stop(request.id)))

        return await _answer(context, work)

    async def ListModels(self, request: Any, context: Any) -> Any:
        """Versions, newest first."""

        async def work() -> Any:
            answer, room = pb.ListModelsResponse(), _MOST_LISTED_BYTES
            for kept in await self._face.models(request.model):
                message = wire.encode_model(kept)
                room -= message.ByteSize() + 16
                if room < 0:
                    break
                answer.models.append(message)
            return answer

        return await _answer(context, work)

    async def GetModel(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A version's card, then its arrays in pieces."""
        try:
            kept, data = await self._face.model(
                request.model, request.version, arrays=request.arrays, own=request.own
            )
            first = pb.GetModelResponse(model=wire.encode_model(kept), data=data[:PIECE], bytes=len(data))
            yield first
            for start in range(PIECE, len(data), PIECE):
                yield pb.GetModelResponse(data=data[start : start + PIECE])
        except Exception as error:
            await _abort(context, error)

    async def RollBack(self, request: Any, context: Any) -> Any:
        """Put an earlier version back into service."""

        async def work() -> Any:
            return wire.encode_rolled_back(await self._face.roll_back(request.model, request.version))

        return await _answer(context, work)

    async def GetForecast(self, request: Any, context: Any) -> Any:
        """What the model in service foretells."""

        async def work() -> Any:
            found, version = await self._face.forecasts(
                request.model, tuple(request.elements), hindsight=request.hindsight
            )
            return pb.GetForecastResponse(
                forecasts=[wire.encode_forecast(item) for item in found], version=version
            )

        return await _answer(context, work)


async def _answer(context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        remaining = context.time_remaining()
        limit_s = MAX_ANSWER_S
        if remaining is not None:  # the sentence has to arrive before the asker gives up
            limit_s = min(limit_s, remaining - min(1.0, remaining / 10))
        try:
            async with asyncio.timeout(limit_s):
                return await work()
        except TimeoutError:
            raise Unreachable(f"no answer within {limit_s:.0f} s; ask again later") from None
    except Exception as error:
        await _abort(context, error)


async def _abort(context: Any, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, TwinError):
        log.error("question about learning failed", exc_info=error)
        error = TwinError("this failed; the log of the asked has the details")
    await refuse(context, error)
