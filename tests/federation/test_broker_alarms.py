"""What stands between the domains, as alarms: raised and cleared by what happens, kept over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federation_parts import EXCHANGE, OPERATORS, Federation, all_connected, until

from domain_twin.config import AccessConfig, BrokerConfig
from domain_twin.errors import ContractError, NotFound, NotShared
from domain_twin.model import Alarm, OperatorState
from domain_twin.trust.identity import Role
from federation.client import TwinClient

OPERATOR = f"spiffe://{EXCHANGE}/user/noc"


class Operated(Federation):
    """A federation in which one person may operate, and the others read."""

    def broker_config(self, port: int = 0) -> BrokerConfig:
        config = super().broker_config(port)
        return config.model_copy(
            update={"access": (*config.access, AccessConfig(subject=OPERATOR, operate=True))}
        )


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Operated.make(tmp_path)


def operator(federation: Federation, broker: Any) -> Any:
    return federation.client(broker, operator=EXCHANGE, role=Role.USER, name="noc")


async def lost(twin: TwinClient, domain: str) -> Alarm:
    async def question() -> Alarm | None:
        found = [a for a in await twin.alarms(domain) if a.key.qualifier == "domain.lost"]
        return found[0] if found else None

    alarm: Alarm = await until(question)
    return alarm


async def test_a_lost_domain_is_an_alarm_until_it_is_back(federation: Federation) -> None:
    async with (
        federation.broker() as broker,
        operator(federation, broker) as twin,
        federation.agent("ran", broker),
        federation.agent("edge", broker),
    ):
        async with federation.agent("transport", broker):
            await all_connected(twin)
        alarm = await lost(twin, "transport")
        assert alarm.remedy
        assert await twin.alarms("ran") == []

        said = await twin.set_alarm_state(alarm.id[:5], OperatorState.ACK, "called them")
        assert (said.operator, said.note) == (OPERATOR, "called them")

        async with federation.agent("transport", broker):
            await until(lambda: over(twin, alarm.id))


async def over(twin: TwinClient, identity: str) -> bool:
    (alarm,) = [item for item in await twin.alarms(everything=True) if item.id == identity]
    return alarm.is_cleared and alarm not in await twin.alarms()


async def test_what_was_said_of_an_alarm_outlives_the_broker(federation: Federation) -> None:
    async with federation.broker() as broker, operator(federation, broker) as twin:
        async with federation.agents(broker):
            await all_connected(twin)
        alarm = await lost(twin, "edge")
        await twin.set_alarm_state(alarm.id, OperatorState.SHELVED, "works until noon")

    async with federation.broker() as broker, operator(federation, broker) as twin:
        (kept,) = [item for item in await twin.alarms(everything=True) if item.id == alarm.id]
    assert (kept.operator_state, kept.note) == (OperatorState.SHELVED, "works until noon")


async def test_reading_is_not_operating(federation: Federation) -> None:
    async with federation.broker() as broker, federation.client(broker) as twin:
        with pytest.raises(NotShared, match="operate = true"):
            await twin.set_alarm_state("ab", OperatorState.ACK)
    async with federation.broker() as broker:
        agent = federation.client(broker, operator=OPERATORS["ran"], role=Role.AGENT, name="ran")
        async with agent as twin:
            with pytest.raises(NotShared, match="do not read"):
                await twin.alarms()


async def test_what_makes_no_sense_is_refused(federation: Federation) -> None:
    async with federation.broker() as broker, operator(federation, broker) as twin:
        with pytest.raises(NotFound, match="no alarm has an id that begins with 'zz'"):
            await twin.set_alarm_state("zz", OperatorState.ACK)
        with pytest.raises(NotFound, match="no domain"):
            await twin.alarms("moon")
        with pytest.raises(ContractError, match="accepted are none, ack, closed, shelved"):
            await twin.set_alarm_state("zz", "done")  # type: ignore[arg-type]
        with pytest.raises(ContractError, match="characters at most"):
            await twin.set_alarm_state("zz", OperatorState.ACK, "x" * 2000)
