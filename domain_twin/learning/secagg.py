"""SecAgg+ as Flower has it (Bell et al. 2020), with what it lacks where the middle is not trusted.

Owns every import of Flower's that belongs to it, all on its legacy path
(`tests/learning/test_secagg_contract.py` fails when one of them changes), and mends in them:

- Masks come from ChaCha20 with 256 bits of key. Flower folds each seed to 32 bits and draws from a Mersenne
  twister: whoever receives a masked vector could try them all.
- A domain refuses a threshold of half of the domains or fewer, fewer than three domains, an answer that would
  reveal both secrets of a domain, and lists with a domain twice (`Guard`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError, NotShared
from domain_twin.learning.flower import ConfigRecord, Context, Message, node_number
from domain_twin.learning.vouching import Vouching

# isort: split
# Flower's own module sets what is switched off before flwr is imported; these follow it.
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
    Key,
    Stage,
)
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins
from flwr.server import LegacyContext, ServerConfig
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import Strategy as LegacyStrategy
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState

__all__ = [
    "LEAST_DOMAINS",
    "MAIN_CONFIGS_RECORD",
    "MAIN_PARAMS_RECORD",
    "MASKING",
    "MAX_WEIGHT",
    "MODULUS",
    "RANGE",
    "RECORD_KEY_CONFIGS",
    "RECORD_KEY_STATE",
    "VOUCHED",
    "Code",
    "FitIns",
    "FitRes",
    "GridClientProxy",
    "Guard",
    "Key",
    "LegacyContext",
    "LegacyStrategy",
    "SecAggPlusWorkflow",
    "ServerConfig",
    "SimpleClientManager",
    "Stage",
    "Status",
    "WorkflowKey",
    "WorkflowState",
    "exposed",
    "fitres_to_recorddict",
    "keystream",
    "ndarrays_to_parameters",
    "parameters_to_ndarrays",
    "quantization",
    "recorddict_to_fitins",
    "secaggplus_mod",
    "stage_of",
    "threshold",
]

LEAST_DOMAINS: Final = 3
"""Of a sum over two, each of them learns the other's part."""
VOUCHED: Final = "vouched"
"""The record with what domains signed of their keys."""
RANGE: Final = 1.0
"""Largest absolute value that is summed; larger ones are cut off."""
MODULUS: Final = 1 << 32
MAX_WEIGHT: Final = 10_000.0
"""Records that a domain's part weighs at most: more count as so many."""


def keystream(seed: bytes, modulus: int, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.int64]]:
    """Uniform integers below `modulus` (a power of 2, 2^32 at most) in `shapes`, from ChaCha20 (RFC 8439)."""
    if modulus & (modulus - 1) or not 1 < modulus <= MODULUS:
        raise ContractError(f"secure aggregation: modulus {modulus} is no power of 2 up to 2^32")
    key = hashlib.sha256(b"fedtwin mask\0" + seed).digest()
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    masks = []
    for shape in shapes:
        count = int(np.prod(shape, dtype=np.int64))
        words = np.frombuffer(stream.update(bytes(4 * count)), "<u4")
        masks.append((words & np.uint32(modulus - 1)).astype(np.int64).reshape(shape))
    return masks


MASKING: Final = tuple(
    # By name: the package gives a function the name of its module, and `import ... as` would find that.
    import_module(name)
    for name in (
        "flwr.client.mod.secure_aggregation.secaggplus_mod",
        "flwr.server.workflow.secure_aggregation.secaggplus_workflow",
    )
)
"""Flower's modules that draw masks."""

for _module in MASKING:
    if not callable(getattr(_module, "pseudo_rand_gen", None)):
        raise ConfigError(
            f"{_module.__name__}: it draws its masks elsewhere than in flwr 1.41; nothing is masked"
        )
    _module.pseudo_rand_gen = keystream  # type: ignore[attr-defined]


def threshold(domains: int) -> int:
    """Domains that must answer at every stage: more than half, three at least."""
    return max(LEAST_DOMAINS, domains // 2 + 1)


def exposed(operators: Iterable[str], needed: int) -> str:
    """Why a sum over domains of these `operators`, one each, would tell somebody's part; empty if it hides.

    `needed` is the threshold: who holds so many shares, and hears what the broker hears, unmasks the others.
    """
    counts = Counter(operators)
    if len(counts) == 2:
        return (
            f"the domains are two operators': {', '.join(sorted(counts))}; `private` needs {LEAST_DOMAINS},"
            " since of a sum over two each learns the other's part"
        )
    largest, domains = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if len(counts) > 1 and domains >= needed:
        return (
            f"{domains} of {counts.total()} domains are {largest}'s, which hold shares enough to unmask the"
            f" others'; fewer than {needed} may be one operator's"
        )
    return ""


def quantization(domains: int) -> int:
    """Steps of RANGE's two sides, so many that the sum over `domains` stays below MODULUS."""
    return 1 << (31 - max(1, (domains - 1).bit_length()))


def stage_of(message: Message) -> str:
    """The stage that `message` asks for. Raises ContractError where it asks for none."""
    record = message.content.config_records.get(RECORD_KEY_CONFIGS)
    stage = record.get(Key.STAGE) if record is not None else None
    if not isinstance(stage, str) or stage not in Stage.all():
        raise ContractError("a training under `private` that does not go through secure aggregation")
    return stage


class Guard:
    """What a domain checks of each stage before Flower's own code sees it; its memory is the Context.

    With `vouching`, it signs its keys, goes on only with keys that domains which it knows have signed, and
    takes part only in sums over domains of so many operators that none can take the others' parts off.
    """

    def __init__(self, vouching: Vouching | None = None) -> None:
        self._vouching = vouching
        known = vouching.names if vouching is not None else ()
        self._names = {node_number(name): name for name in known}
        whose = vouching.operators if vouching is not None else {}
        self._whose = {node_number(name): operator for name, operator in whose.items()}

    def __call__(
        self, message: Message, held: Context, call: Callable[[Message, Context], Message]
    ) -> Message:
        """The reply of the stage. Raises ContractError for what would weaken the masks, NotShared."""
        stage = stage_of(message)
        configs = message.content.config_records[RECORD_KEY_CONFIGS]
        if stage == Stage.SETUP:
            _check_setup(configs)
        elif stage == Stage.SHARE_KEYS:
            _check_keys(configs, _state(held))
            self._check_vouched(message, configs)
            self._check_operators([int(name) for name in configs if name != Key.STAGE], message, held)
        elif stage == Stage.COLLECT_MASKED_VECTORS:
            _check_sources(configs, _state(held), message.metadata.dst_node_id)
        elif stage == Stage.UNMASK:
            _check_unmask(configs, _state(held), message.metadata.dst_node_id)
            self._check_operators(configs[Key.ACTIVE_NODE_ID_LIST], message, held)  # type: ignore[arg-type]
        reply = call(message, held)
        if stage == Stage.SETUP and self._vouching is not None and not reply.has_error():
            keys = _keys(reply.content.config_records[RECORD_KEY_CONFIGS])
            stated = self._vouching.state(message.metadata.run_id, int(message.metadata.group_id), keys)
            reply.content[VOUCHED] = ConfigRecord({"statement": stated})
        return reply

    def _check_vouched(self, message: Message, configs: ConfigRecord) -> None:
        if self._vouching is None:
            return
        statements = message.content.config_records.get(VOUCHED, ConfigRecord())
        of = message.metadata
        for node in (name for name in configs if name != Key.STAGE and int(name) != of.dst_node_id):
            pair, statement = configs[node], statements.get(node)
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(statement, bytes):
                raise ContractError("private round: keys that nobody signed")
            first, second = pair
            if not isinstance(first, bytes) or not isinstance(second, bytes):
                raise ContractError("private round: keys that are none")
            domain = self._names.get(int(node), "")
            self._vouching.check(domain, of.run_id, int(of.group_id), (first, second), statement)

    def _check_operators(self, nodes: Sequence[int], message: Message, held: Context) -> None:
        """Raises NotShared where an operator could find this domain's part; unknown nodes are refused."""
        if self._vouching is None:
            return
        own = message.metadata.dst_node_id
        others = {node for node in nodes if node != own}
        if unknown := others - self._whose.keys():
            raise ContractError(f"private round: {len(unknown)} of its nodes are no peers of this domain")
        operators = [self._vouching.operator, *(self._whose[node] for node in others)]
        if why := exposed(operators, _count(_state(held), Key.THRESHOLD)):
            raise NotShared(f"private round: {why}")


def _keys(said: ConfigRecord) -> tuple[bytes, bytes]:
    first, second = said[Key.PUBLIC_KEY_1], said[Key.PUBLIC_KEY_2]
    if not isinstance(first, bytes) or not isinstance(second, bytes):
        raise ContractError("secure aggregation: no keys")
    return first, second


def _state(held: Context) -> ConfigRecord:
    state = held.state.config_records.get(RECORD_KEY_STATE)
    if state is None:
        raise ContractError("secure aggregation: a stage came before the first one, or the domain began anew")
    return state


def _check_setup(configs: ConfigRecord) -> None:
    sampled, shares, needed = (
        _count(configs, key) for key in (Key.SAMPLE_NUMBER, Key.SHARE_NUMBER, Key.THRESHOLD)
    )
    if sampled < LEAST_DOMAINS or shares != sampled:
        raise ContractError(
            f"secure aggregation over {sampled} domains, {shares} shares: {LEAST_DOMAINS} domains at least,"
            " and"
            " a share for each"
        )
    if needed < threshold(sampled) or needed > sampled:
        raise ContractError(
            f"secure aggregation: threshold {needed} of {sampled} domains; {threshold(sampled)} at least,"
            " else"
            " some could be asked for one secret of a domain and others for the second"
        )
    wanted = {
        Key.CLIPPING_RANGE: RANGE,
        Key.TARGET_RANGE: quantization(sampled),
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: MAX_WEIGHT,
    }
    for key, value in wanted.items():
        if configs.get(key) != value:
            raise ContractError(f"secure aggregation: {key} is {configs.get(key)!r}, not {value!r}")


def _check_keys(configs: ConfigRecord, state: ConfigRecord) -> None:
    peers = [key for key in configs if key != Key.STAGE]
    needed, at_most = _count(state, Key.THRESHOLD), _count(state, Key.SHARE_NUMBER)
    if not needed <= len(peers) <= at_most:
        raise ContractError(
            f"secure aggregation: keys of {len(peers)} domains; {needed} to {at_most} are asked for"
        )


def _check_sources(configs: ConfigRecord, state: ConfigRecord, own: int) -> None:
    sources = configs.get(Key.SOURCE_LIST)
    if not isinstance(sources, list) or own in sources or len(set(sources)) != len(sources):
        raise ContractError("secure aggregation: shares of a domain came twice, or of none")
    if len(sources) + 1 < (needed := _count(state, Key.THRESHOLD)):
        raise ContractError(
            f"secure aggregation: shares of {len(sources)} others; {needed} domains must be in"
        )


def _check_unmask(configs: ConfigRecord, state: ConfigRecord, own: int) -> None:
    active, dead = (configs.get(key) for key in (Key.ACTIVE_NODE_ID_LIST, Key.DEAD_NODE_ID_LIST))
    if not isinstance(active, list) or not isinstance(dead, list):
        raise ContractError("secure aggregation: no lists of who answered")
    if len({*active, *dead}) != len(active) + len(dead):
        raise ContractError(
            "secure aggregation: a domain is listed twice, as if it had answered and not: both of its secrets"
            " together would unmask it"
        )
    needed = _count(state, Key.THRESHOLD)
    if own not in active or len(active) < needed:
        raise ContractError(
            f"secure aggregation: {len(active)} domains answered; {needed} must, this one too"
        )


def _count(configs: ConfigRecord, key: str) -> int:
    value: Any = configs.get(key)
    if type(value) is not int:
        raise ContractError(f"secure aggregation: {key} is no count")
    return value
