"""A process that trains, or that uses models: answers its agent's questions one after another.

Owns limits of its own (memory, one thread for numbers, low priority) and the runs it was given; ends with its
agent. It opens no connection: all that it knows came over the pipe. Heavy imports happen here and never in
the agent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from domain_twin.agent.serving_child import Serving
    from domain_twin.learning.client import Endpoint
    from domain_twin.learning.flower import ClientApp
    from domain_twin.learning.ledger import Ledger
    from domain_twin.learning.panel import Panel
    from domain_twin.learning.task import Task
    from domain_twin.learning.vouching import Vouching

__all__ = ["ChildSettings", "main", "own_app"]

T = TypeVar("T")
_RUNS: Final = 4
_ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What the process is told once. `folder` is the part of the agent's state that is learning's."""

    domain: str
    folder: str
    memory_bytes: int
    max_bytes: int
    epsilon: float = 8.0
    """Privacy that the domain spends on all models together, at `delta`."""
    delta: float = 1e-5
    vouching: Vouching | None = None
    """How the domain's keys in private rounds are signed, and whose are taken; None: nobody's are checked."""
    app: str = ""
    """A Python file of the domain's own, whose `client_app` answers rounds."""
    max_update_norm: float = 0.0
    """Updates that are longer leave made shorter; 0: however long they are."""
    serves: bool = False
    """Whether it uses models in service, and does not train."""


def main(pipe: Connection, settings: ChildSettings) -> None:
    """Answer until the pipe ends. Each question is (operation, arguments); each answer (ok, content)."""
    _settle(settings)
    work: _Work | Serving
    if settings.serves:
        from domain_twin.agent.serving_child import Serving

        work = Serving(settings.max_bytes)
    else:
        work = _Work(settings)
    with contextlib.suppress(EOFError, OSError):
        while True:
            operation, arguments = pipe.recv()
            pipe.send(_answered(work, operation, arguments))


def _answered(work: _Work | Serving, operation: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    from domain_twin.errors import OverCapacity, TwinError

    try:
        return True, getattr(work, operation)(*arguments)
    except TwinError as error:
        return False, (type(error).__name__, str(error))
    except MemoryError:
        return False, (OverCapacity.__name__, "learning needs more than [learning] memory_mb here")
    except Exception as error:
        logging.getLogger(__name__).exception("learning failed", extra={"operation": operation})
        return False, ("", f"{type(error).__name__}: {error}")


def _settle(settings: ChildSettings) -> None:
    """Limits first: they hold for all that is imported from here on."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(_ONE_THREAD)
    os.environ["FLWR_HOME"] = str(Path(settings.folder) / "flwr")
    with contextlib.suppress(OSError):
        os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = settings.memory_bytes if hard == resource.RLIM_INFINITY else min(hard, settings.memory_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="learning: %(message)s")


def _end_with_parent() -> None:
    """End when the agent is gone, however it went: a killed one cannot say so."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def own_app(path: Path) -> Callable[..., ClientApp]:
    """The function `client_app` of a domain's own file, as it is now. Raises ConfigError, which names it."""
    import runpy

    from domain_twin.errors import ConfigError

    try:
        made = runpy.run_path(str(path)).get("client_app")
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: cannot be used for learning ({type(error).__name__}: {error})") from error
    if not callable(made):
        raise ConfigError(f"{path}: has no function client_app(source, *, domain, task)")
    found: Callable[..., ClientApp] = made
    return found


def _an_app(made: object) -> ClientApp:
    from domain_twin.learning.flower import ClientApp

    if not isinstance(made, ClientApp):
        raise TypeError(f"client_app answered {type(made).__name__}, not a ClientApp of Flower")
    return made


class _Work:
    """The operations; their names are what the agent asks."""

    def __init__(self, settings: ChildSettings) -> None:
        self._settings = settings
        self._runs: OrderedDict[str, Endpoint] = OrderedDict()

    def check(self, task: bytes) -> None:
        """See whether the model of a task can be made here.

        Raises ConfigError, ContractError; NotShared where a generator costs more privacy than is left.
        """
        from domain_twin.learning.learner import learner
        from domain_twin.learning.task import Profile, Task

        told = Task.from_json(task)
        learner(told)
        if told.tells_noised:
            self._affordable(told)
        if told.profile is not Profile.PRIVATE and self._settings.app:
            self._own(lambda make: make)

    def open(self, run: str, task: bytes, panel: Panel) -> None:
        """Take a run's data in."""
        from domain_twin.learning.client import Endpoint, client_app
        from domain_twin.learning.task import Profile, Task

        told = Task.from_json(task)
        if told.profile is Profile.PRIVATE:
            app = self._private(told, panel)
        else:
            about: dict[str, Any] = {"domain": self._settings.domain, "task": told}
            if self._settings.app:
                app = self._own(lambda make: _an_app(make(lambda _: panel, **about)))
            else:
                longest = self._settings.max_update_norm or None
                app = client_app(lambda _: panel, **about, run=run, norm_limit=longest)
        self._runs[run] = Endpoint(app, limit_bytes=self._settings.max_bytes)
        while len(self._runs) > _RUNS:
            self._runs.popitem(last=False)

    def _own(self, use: Callable[[Callable[..., ClientApp]], T]) -> T:
        """`use` of what makes the domain's own app. Raises ConfigError, which names no file and no data."""
        from domain_twin.errors import ConfigError

        try:
            return use(own_app(Path(self._settings.app)))
        except Exception as error:  # others are told no more than that
            logging.getLogger(__name__).error(
                "the domain's own app cannot be used: %s", error, exc_info=not isinstance(error, ConfigError)
            )
            raise ConfigError(
                f"{self._settings.domain} cannot use its own app for learning; its log says why"
            ) from None

    def _affordable(self, task: Task) -> None:
        """Refuse a generator in words, before a round begins: a round says one word. Raises NotShared."""
        from domain_twin.errors import NotShared
        from domain_twin.learning.ledger import BudgetSpent
        from domain_twin.learning.models.gan_noised import PLAN
        from domain_twin.learning.task import Privacy

        privacy, settings = task.privacy or Privacy(), self._settings
        try:
            self._ledger().check(task.model, privacy, PLAN)
        except BudgetSpent as error:
            logging.getLogger(__name__).warning("no generator is told of: %s", error)
            raise NotShared(
                f"{settings.domain} has too little of its privacy left to tell statistics for"
                f" {task.model!r} at noise_multiplier {privacy.noise_multiplier:g}; ask with more noise"
                " (privacy: noise_multiplier in a task's file), use the version there is, or have its"
                " operator raise [learning] epsilon, or the task its own; its log says what is spent"
            ) from None
        except NotShared:
            raise NotShared(
                f"{settings.domain} counts privacy at delta {settings.delta:g} at most, and the task at"
                f" {privacy.delta:g}: lower the task's (privacy: delta)"
            ) from None

    def _ledger(self) -> Ledger:
        from domain_twin.learning.ledger import Ledger

        settings = self._settings
        return Ledger(Path(settings.folder) / "privacy.json", epsilon=settings.epsilon, delta=settings.delta)

    def _private(self, task: Task, panel: Panel) -> ClientApp:
        from domain_twin.learning.private import private_app

        settings = self._settings
        return private_app(
            lambda _: panel,
            domain=settings.domain,
            ledger=self._ledger(),
            task=task,
            vouching=settings.vouching,
        )

    def message(self, run: str, message: bytes) -> bytes | None:
        """Answer one message of a round; None: the run's data is not here. Raises ContractError."""
        held = self._runs.get(run)
        return held.answer(message) if held is not None else None

    def forget(self, run: str) -> None:
        """Let go of a run's data."""
        self._runs.pop(run, None)

    def fitted_here(self, task: bytes, arrays: bytes, panel: Panel) -> bytes:
        """A residual fitted to the domain's own rows, too; empty: as delivered. Raises ContractError."""
        from domain_twin.learning.arrays import decode_arrays, encode_arrays
        from domain_twin.learning.models.residual import make, share_of
        from domain_twin.learning.task import Task

        delivered = decode_arrays(arrays, self._settings.max_bytes)
        made = make(Task.from_json(task)).fitted_here(delivered, panel)
        return encode_arrays(made) if share_of(made) < 1.0 else b""

    def evaluate(self, task: bytes, arrays: bytes, panel: Panel) -> dict[str, float]:
        """Measures of a model on the holdout of `panel`. Raises ContractError, ConfigError."""
        from domain_twin.learning.arrays import decode_arrays
        from domain_twin.learning.learner import learner
        from domain_twin.learning.task import Task

        made = learner(Task.from_json(task))
        return made.evaluate(decode_arrays(arrays, self._settings.max_bytes), panel)
