"""A real NETCONF client (ncclient) of the emulated server, for tests."""

import asyncio
import contextlib

import pytest
from lxml import etree
from ncclient import manager
from ncclient.operations import RPCError

NC = "urn:ietf:params:xml:ns:netconf:base:1.0"
IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
NTF = "urn:ietf:params:xml:ns:netconf:notification:1.0"
SN = "urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications"
NMDA = "urn:ietf:params:xml:ns:yang:ietf-netconf-nmda"
YP = "urn:ietf:params:xml:ns:yang:ietf-yang-push"
EVENTS = "urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"
N = {
    "nc": NC,
    "if": IF,
    "n": NTF,
    "yp": YP,
    "sn": SN,
    "e": EVENTS,
    "s": "urn:fedtwin:yang:fedtwin-device-events",
}
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"

call = asyncio.to_thread


@contextlib.asynccontextmanager
async def session(server, ssh_config, username="operator", password="s3cret"):
    client = await call(
        manager.connect,
        host="127.0.0.1",
        port=server.port,
        username=username,
        password=password,
        hostkey_verify=True,
        ssh_config=ssh_config,
        allow_agent=False,
        look_for_keys=False,
        timeout=10,
        manager_params={"timeout": 10},
    )
    try:
        yield client
    finally:
        if client.connected:
            with contextlib.suppress(Exception):
                await call(client.close_session)


def interface(inner, name="eth0", attributes=""):
    return (
        f'<config xmlns="{NC}" xmlns:nc="{NC}"><interfaces xmlns="{IF}"><interface{attributes}>'
        f"<name>{name}</name>{inner}</interface></interfaces></config>"
    )


async def edit(client, inner, *, target="candidate", name="eth0", attributes="", **options):
    return await call(client.edit_config, target=target, config=interface(inner, name, attributes), **options)


async def refused(awaitable):
    with pytest.raises(RPCError) as caught:
        await awaitable
    return caught.value


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (waits for another side's state)
            await asyncio.sleep(0.01)


async def event(client, path):
    """The next notification that has `path`."""
    while True:
        received = await call(client.take_notification, True, 10)
        assert received is not None
        root = etree.fromstring(received.notification_xml.encode())
        found = root.xpath(path, namespaces=N)
        if found:
            return root
