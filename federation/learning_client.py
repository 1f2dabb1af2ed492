"""The Learning service as a Python API: for the command line and users' scripts.

The same client talks to a broker over mTLS and to an agent on its Unix socket, which knows its own models and
forecasts only. Errors are raised as the TwinErrors that they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain_twin.errors import ContractError
from domain_twin.learning.arrays import decode_arrays
from federation.client import TwinClient
from federation.connection import Connection
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import learning as wire
from federation.wire.learning import ElementForecast, RolledBack

if TYPE_CHECKING:
    from domain_twin.learning.learner import Arrays
    from domain_twin.learning.run import Run
    from domain_twin.learning.store import Kept
    from domain_twin.learning.task import Task

__all__ = ["LearningClient"]

MAX_MODEL_BYTES = 64 << 20


class LearningClient(Connection):
    """A connection to those who train, used as `async with LearningClient.connect(at) as learning`."""

    use = "`async with LearningClient.connect(…)`"

    @classmethod
    def connect(cls, at: str | Path = "", *, timeout_s: float = 60.0) -> LearningClient:
        """A client of the broker or agent at `at`, as `TwinClient.connect` finds it. Raises as it does."""
        return cls(TwinClient.connect(at)._profile, timeout_s=timeout_s)

    def _make_stub(self, channel: Any) -> Any:
        from federation.v1.fedtwin_pb2_grpc import LearningStub

        return LearningStub(channel)

    async def start(self, task: Task, domains: Sequence[str] = ()) -> Run:
        """Begin a training; without `domains` with all that take part.

        Raises NotShared, OverCapacity, NotFound (no such domain), Conflict (that model is being trained),
        ConfigError, ContractError.
        """
        request = pb.StartRunRequest(task=task.to_json(), domains=domains)
        return wire.decode_run((await self._ask("StartRun", request)).run)

    async def run(self, identity: str) -> Run:
        """A training with its log, by its id or the beginning of it. Raises NotFound."""
        return wire.decode_run((await self._ask("GetRun", pb.GetRunRequest(id=identity))).run)

    async def runs(self) -> list[Run]:
        """All trainings, newest first, without their logs."""
        answer = await self._ask("ListRuns", pb.ListRunsRequest())
        return [wire.decode_run(item) for item in answer.runs]

    async def watch(self, identity: str) -> AsyncIterator[Run]:
        """A training now, with its log so far, and at every change until it has ended."""
        call = self._connected().WatchRun(pb.WatchRunRequest(id=identity))
        log: tuple[Any, ...] = ()
        async with aclosing(self._messages(call)) as messages:
            async for message in messages:
                run = wire.decode_run(message.run)
                log += run.log
                yield replace(run, log=log)

    async def stop(self, identity: str) -> Run:
        """Have a training end without a model. Raises NotFound, NotShared."""
        return wire.decode_run((await self._ask("StopRun", pb.StopRunRequest(id=identity))).run)

    async def models(self, model: str = "") -> list[Kept]:
        """Versions with their cards, newest first; of one model or of all."""
        answer = await self._ask("ListModels", pb.ListModelsRequest(model=model))
        return [wire.decode_model(item) for item in answer.models]

    async def card(self, model: str, version: int = 0) -> Kept:
        """One version's card; 0: the one in service. Raises NotFound."""
        kept, _ = await self._model(pb.GetModelRequest(model=model, version=version))
        return kept

    async def arrays(self, model: str, version: int = 0, *, own: bool = False) -> tuple[Kept, Arrays]:
        """One version with its arrays. Raises NotFound, NotShared.

        With `own`, a generator's with what domains say of themselves (regimes, marginals, mixing of noise) of
        the asked agent's history; an agent only. Raises ContractError for other models.
        """
        request = pb.GetModelRequest(model=model, version=version, arrays=True, own=own)
        kept, data = await self._model(request)
        return kept, decode_arrays(data, MAX_MODEL_BYTES)

    async def roll_back(self, model: str, version: int) -> RolledBack:
        """Put an earlier version back into service. Raises NotFound, NotShared."""
        request = pb.RollBackRequest(model=model, version=version)
        return wire.decode_rolled_back(await self._ask("RollBack", request))

    async def forecast(
        self, model: str, elements: Sequence[str] = (), *, hindsight: bool = False
    ) -> tuple[list[ElementForecast], int]:
        """What the model in service foretells, and its version; an agent only. Raises NotFound, NotShared.

        With `hindsight` what it would have foretold over its holdout, one horizon ahead, and what came true.
        """
        request = pb.GetForecastRequest(model=model, elements=elements, hindsight=hindsight)
        answer = await self._ask("GetForecast", request)
        return [wire.decode_forecast(item) for item in answer.forecasts], int(answer.version)

    async def _model(self, request: Any) -> tuple[Kept, bytes]:
        import grpc

        kept: Kept | None = None
        pieces: list[bytes] = []
        size = 0
        try:
            async for message in self._connected().GetModel(request, timeout=self._timeout_s):
                if kept is None:
                    kept, size = wire.decode_model(message.model), int(message.bytes)
                pieces.append(message.data)
                if sum(map(len, pieces)) > min(size, MAX_MODEL_BYTES):
                    raise ContractError(f"{self.address}: sends more of a model than it announced")
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error) from None
        data = b"".join(pieces)
        if kept is None or len(data) != size:
            raise ContractError(f"{self.address}: sent {len(data)} of {size} bytes of a model")
        return kept, data
