"""What an emulated device tells by itself: RFC 5277 events, NMDA reads, YANG-push (RFC 8641)."""

import asyncio

import pytest
from lxml import etree
from ncclient.xml_ import to_ele
from netconf_client import ETH0, IF, NMDA, SN, YP, N, call, edit, event, refused, session, until

from domain_twin.emulator.device import Actor, Change

# ---- event notifications (RFC 5277, 6470) ----------------------------------


async def test_config_change_is_notified_with_its_paths(client, store):
    await call(client.create_subscription)
    await edit(client, "<enabled>false</enabled>", target="running")

    root = await event(client, "//e:netconf-config-change")
    target = root.find(".//{*}target")
    assert target.text == "/if:interfaces/if:interface[if:name='eth0']/if:enabled"
    assert target.nsmap["if"] == IF
    assert root.findtext(".//{*}operation") == "replace"
    assert root.findtext(".//{*}username") == "operator"
    assert root.findtext("{*}eventTime").endswith("Z")


async def test_gnmi_style_edit_and_state_change_are_notified(client, store):
    await call(client.create_subscription)
    await until(lambda: store._queues)
    store.edit([Change("remove", "/ietf-interfaces:interfaces/interface[name='eth1']")], Actor("gnmi"))
    root = await event(client, "//e:netconf-config-change")
    assert root.find(".//{*}server") is not None
    assert root.findtext(".//{*}operation") == "delete"

    store.put(f"{ETH0}/statistics/in-errors", 99)
    store.put(f"{ETH0}/oper-status", "down")
    root = await event(client, "//s:change[contains(s:target, 'eth0')]")
    assert root.xpath("//s:value/text()", namespaces=N) == ["down"]


async def test_confirmed_commit_is_notified(client):
    await call(client.create_subscription)
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True, timeout="1")
    events = [
        (await event(client, "//e:netconf-confirmed-commit")).findtext(".//{*}confirm-event")
        for _ in range(2)
    ]
    assert events == ["start", "timeout"]


async def test_subscription_refusals(client):
    assert (await refused(call(client.create_subscription, stream_name="SNMP"))).tag == "invalid-value"
    assert (
        await refused(call(client.create_subscription, start_time="2026-01-01T00:00:00Z"))
    ).tag == "operation-not-supported"
    await call(client.create_subscription)
    assert (await refused(call(client.create_subscription))).tag == "operation-failed"


# ---- get-data (RFC 8526) ---------------------------------------------------


def get_data(datastore, more=""):
    return to_ele(
        f'<get-data xmlns="{NMDA}"><datastore xmlns:d="urn:ietf:params:xml:ns:yang:ietf-datastores">'
        f"d:{datastore}</datastore>{more}</get-data>"
    )


async def test_get_data_reads_each_datastore_by_a_subtree(client):
    await edit(client, "<enabled>false</enabled>")
    found = {}
    for name in ("operational", "running", "candidate"):
        chosen = (
            f'<subtree-filter><interfaces xmlns="{IF}"><interface><name>eth0</name></interface></interfaces>'
        )
        reply = to_ele((await call(client.dispatch, get_data(name, f"{chosen}</subtree-filter>"))).xml)
        assert [e.text for e in reply.iter(f"{{{IF}}}name")] == ["eth0"]
        found[name] = reply.findtext(f".//{{{IF}}}enabled"), reply.find(f".//{{{IF}}}oper-status") is not None

    assert found == {"operational": ("true", True), "running": ("true", False), "candidate": ("false", False)}


@pytest.mark.parametrize(
    ("request_", "tag"),
    [
        (get_data("startup"), "invalid-value"),
        (get_data("operational", "<with-origin/>"), "operation-not-supported"),
        (to_ele(f'<get-data xmlns="{NMDA}"/>'), "missing-element"),
    ],
)
async def test_get_data_refusals(client, request_, tag):
    assert (await refused(call(client.dispatch, request_))).tag == tag


# ---- datastore push (RFC 8639, 8641) ---------------------------------------


def establish(trigger, selection=None):
    selection = selection or (
        f'<yp:datastore-subtree-filter><interfaces xmlns="{IF}"/></yp:datastore-subtree-filter>'
    )
    return to_ele(
        f'<establish-subscription xmlns="{SN}" xmlns:yp="{YP}"><yp:datastore '
        'xmlns:ds="urn:ietf:params:xml:ns:yang:ietf-datastores">ds:operational</yp:datastore>'
        f"{selection}{trigger}</establish-subscription>"
    )


ON_CHANGE = "<yp:on-change/>"


async def established(client, request):
    reply = await call(client.dispatch, request)
    return to_ele(reply.xml).findtext(f"{{{SN}}}id")


def edits(root):
    return [
        (e.findtext("{*}operation"), e.findtext("{*}target"), "".join(e.find("{*}value").itertext()))
        if e.find("{*}value") is not None
        else (e.findtext("{*}operation"), e.findtext("{*}target"), None)
        for e in root.iter(f"{{{YP}}}edit")
    ]


async def test_on_change_push_sends_all_then_changes(client, store):
    identifier = await established(client, establish(ON_CHANGE))
    first = await event(client, "//yp:push-update")
    assert first.findtext(".//{*}id") == identifier
    assert len(list(first.iter(f"{{{IF}}}interface"))) == 2

    store.put(f"{ETH0}/oper-status", "down")
    store.put("/fedtwin-performance:performance/interval", 5)
    store.put(f"{ETH0}/statistics/in-errors", 8)
    change = await event(client, "//yp:push-change-update")
    assert edits(change) == [
        ("replace", f"{ETH0}/oper-status", "down"),
        ("replace", f"{ETH0}/statistics/in-errors", "8"),
    ]

    await call(
        client.dispatch,
        to_ele(f'<delete-subscription xmlns="{SN}"><id>{identifier}</id></delete-subscription>'),
    )
    async with asyncio.timeout(10):
        while store._queues:  # noqa: ASYNC110  the push ends just after the reply
            await asyncio.sleep(0.01)


async def test_push_without_a_filter_is_of_everything(client, store):
    everything = establish(ON_CHANGE, " ")
    await established(client, everything)
    first = await event(client, "//yp:push-update")
    assert {etree.QName(child).localname for child in first.find(".//{*}datastore-contents")} == {
        "interfaces",
        "networks",
        "gnb",
        "performance",
    }
    store.put("/fedtwin-performance:performance/interval", 5)
    change = await event(client, "//yp:push-change-update")
    assert edits(change) == [("replace", "/fedtwin-performance:performance/interval", "5")]


async def test_entry_that_comes_or_goes_is_one_edit(client, store):
    await established(client, establish(ON_CHANGE))
    await event(client, "//yp:push-update")
    store.edit(
        [
            Change("remove", "/ietf-interfaces:interfaces/interface[name='eth1']"),
            Change(
                "create",
                "/ietf-interfaces:interfaces/interface[name='eth2']",
                {"type": "iana-if-type:ethernetCsmacd", "enabled": True},
            ),
        ],
        Actor("gnmi"),
    )
    store.put(f"{ETH0}/last-change", "2026-01-01T00:00:00Z")

    change = await event(client, "//yp:push-change-update")
    assert edits(change) == [
        ("delete", "/ietf-interfaces:interfaces/interface[name='eth1']", None),
        (
            "create",
            "/ietf-interfaces:interfaces/interface[name='eth2']",
            "eth2ianaift:ethernetCsmacdtrue",
        ),
        ("create", f"{ETH0}/last-change", "2026-01-01T00:00:00Z"),
    ]


async def test_xpath_filter_of_a_plain_path_and_leaf_lists(client, store):
    selection = (
        '<yp:datastore-xpath-filter xmlns:r="urn:fedtwin:yang:fedtwin-ran">'
        "/r:gnb/r:NRCellDU[r:cellLocalId='1']/r:sNSSAIList</yp:datastore-xpath-filter>"
    )
    await established(client, establish(ON_CHANGE, selection))
    first = await event(client, "//yp:push-update")
    assert [e.text for e in first.iter("{urn:fedtwin:yang:fedtwin-ran}sNSSAIList")] == ["1", "2-00000a"]

    cell = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
    store.edit([Change("replace", f"{cell}/sNSSAIList", ["2-00000a", "9"])], Actor("gnmi"))
    change = await event(client, "//yp:push-change-update")
    assert edits(change) == [
        ("delete", f"{cell}/sNSSAIList[.='1']", None),
        ("create", f"{cell}/sNSSAIList[.='9']", "9"),
    ]


async def test_periodic_push_repeats_and_resync_comes_at_once(client):
    identifier = await established(client, establish("<yp:periodic><yp:period>20</yp:period></yp:periodic>"))
    for _ in range(3):
        await event(client, "//yp:push-update")
    modify = (
        f'<modify-subscription xmlns="{SN}" xmlns:yp="{YP}"><id>{identifier}</id>'
        '<yp:datastore xmlns:ds="urn:ietf:params:xml:ns:yang:ietf-datastores">ds:operational</yp:datastore>'
        "<yp:on-change/></modify-subscription>"
    )
    await call(client.dispatch, to_ele(modify))
    await event(client, "//yp:push-update")
    await call(
        client.dispatch,
        to_ele(f'<resync-subscription xmlns="{YP}"><id>{identifier}</id></resync-subscription>'),
    )
    await event(client, "//yp:push-update")


async def test_killed_subscription_tells_its_receiver(server, ssh_config, client):
    identifier = await established(client, establish(ON_CHANGE))
    await event(client, "//yp:push-update")
    async with session(server, ssh_config, "second", "other") as other:
        kill = f'<kill-subscription xmlns="{SN}"><id>{identifier}</id></kill-subscription>'
        await call(other.dispatch, to_ele(kill))

    said = await event(client, "//sn:subscription-terminated")
    assert said.findtext(".//sn:id", namespaces=N) == identifier


async def test_event_stream_by_establish_subscription(client, store):
    request = f'<establish-subscription xmlns="{SN}"><stream>NETCONF</stream></establish-subscription>'
    await established(client, to_ele(request))
    await edit(client, "<enabled>false</enabled>", target="running")
    await event(client, "//e:netconf-config-change")


@pytest.mark.parametrize(
    ("request_", "app_tag"),
    [
        (
            establish(ON_CHANGE, "<yp:datastore-xpath-filter>//interface</yp:datastore-xpath-filter>"),
            "filter-unsupported",
        ),
        (
            establish(
                ON_CHANGE,
                f'<yp:datastore-subtree-filter><interfaces xmlns="{IF}"><interface>'
                "<oper-status>up</oper-status></interface></interfaces></yp:datastore-subtree-filter>",
            ),
            "filter-unsupported",
        ),
        (establish(""), ""),
        (
            to_ele(f'<delete-subscription xmlns="{SN}"><id>77</id></delete-subscription>'),
            "no-such-subscription",
        ),
    ],
)
async def test_push_refusals(client, request_, app_tag):
    error = await refused(call(client.dispatch, request_))
    assert error.tag in ("invalid-value", "missing-element")
    if app_tag:
        assert app_tag in error.app_tag
