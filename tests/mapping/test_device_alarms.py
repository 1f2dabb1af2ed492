"""What is wrong with a device: its own alarm list where it has one, else what its states say."""

from __future__ import annotations

import pytest
from small_network import SECOND, START, Leaf, interface, node_id, point

from domain_twin.mapping.alarms import DeviceAlarms
from domain_twin.model import Change, Condition, Origin, PerceivedSeverity

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
CELL = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"


def entry(resource: str = ETH0, kind: str = "fedtwin-alarms:interface-down") -> str:
    key = f"""[resource="{resource}"][alarm-type-id='{kind}'][alarm-type-qualifier='']"""
    return f"/ietf-alarms:alarms/alarm-list/alarm{key}"


def own_alarm(device: str = "a", *, cleared: bool = False, resource: str = ETH0) -> list[Leaf]:
    at = entry(resource)
    return [
        (device, f"{at}/is-cleared", cleared),
        (device, f"{at}/last-raised", "2027-01-15T08:00:00.25Z"),
        (device, f"{at}/perceived-severity", "minor"),
        (device, f"{at}/alarm-text", "no light"),
    ]


def changes(*groups: list[Leaf], deleted: bool = False) -> list[Change]:
    return [
        Change(device, path, value, START, START, Origin.MEASURED, deleted)
        for group in groups
        for device, path, value in group
    ]


def wrong(alarms: DeviceAlarms, device: str = "a") -> list[tuple[str, str, str]]:
    return [(c.key.alarm_type, c.element, c.severity.value) for c in alarms.conditions(device)]


@pytest.fixture
def alarms() -> DeviceAlarms:
    alarms = DeviceAlarms("transport")
    alarms.apply(changes(interface("a", "eth0"), point("a", "eth0")))
    return alarms


def test_a_device_that_is_well_has_none(alarms: DeviceAlarms) -> None:
    assert alarms.conditions("a") == []
    assert alarms.conditions("never heard of") == []


def test_an_interface_that_is_enabled_and_down_is_an_alarm(alarms: DeviceAlarms) -> None:
    assert alarms.apply(changes([("a", f"{ETH0}/oper-status", "down")])) == {"a"}
    assert wrong(alarms) == [("fedtwin-alarms:interface-down", f"{node_id('a')}:eth0", "major")]

    alarms.apply(changes([("a", f"{ETH0}/enabled", False)]))  # put out of use on purpose
    assert wrong(alarms) == []


def test_the_devices_own_alarm_stands_for_the_derived_one(alarms: DeviceAlarms) -> None:
    alarms.apply(changes([("a", f"{ETH0}/oper-status", "down")], own_alarm()))

    (condition,) = alarms.conditions("a")
    assert condition.severity is PerceivedSeverity.MINOR
    assert condition.text == "no light"
    assert condition.element == f"{node_id('a')}:eth0"
    assert condition.raised_at == 1_800_000_000 * SECOND + SECOND // 4


def test_an_alarm_that_the_device_cleared_or_purged_is_over(alarms: DeviceAlarms) -> None:
    alarms.apply(changes(own_alarm()))
    assert len(alarms.conditions("a")) == 1

    alarms.apply(changes(own_alarm(cleared=True)))
    assert alarms.conditions("a") == []

    alarms.apply(changes(own_alarm()))
    alarms.apply(changes(own_alarm(), deleted=True))
    assert alarms.conditions("a") == []


def test_alarms_of_resources_that_the_twin_does_not_know_are_shown_all_the_same(
    alarms: DeviceAlarms,
) -> None:
    alarms.apply(changes(own_alarm(resource="power supply 2")))

    (condition,) = alarms.conditions("a")
    assert (condition.key.resource, condition.element) == ("power supply 2", "")


def test_a_cell_that_is_unlocked_and_off_the_air_is_critical(alarms: DeviceAlarms) -> None:
    alarms.apply(
        changes(
            [
                ("g", f"{CELL}/cell-id", "urn:ndt:ran:gnb-1:cell-1"),
                ("g", f"{CELL}/administrativeState", "UNLOCKED"),
                ("g", f"{CELL}/operationalState", "DISABLED"),
            ]
        )
    )
    assert wrong(alarms, "g") == [
        ("fedtwin-alarms:cell-out-of-service", "urn:ndt:ran:gnb-1:cell-1", "critical")
    ]


def test_a_time_that_is_none_does_not_hide_the_alarm(alarms: DeviceAlarms) -> None:
    leaves = [leaf for leaf in own_alarm() if not leaf[1].endswith("last-raised")]
    alarms.apply(changes([*leaves, ("a", f"{entry()}/last-raised", "yesterday")]))

    found: list[Condition] = alarms.conditions("a")
    assert [item.raised_at for item in found] == [0]
