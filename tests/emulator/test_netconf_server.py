"""The NETCONF server as an outsider sees it: an unmodified ncclient, and raw SSH where it is too polite."""

import asyncio
import contextlib

import asyncssh
import pytest
from lxml import etree
from ncclient import manager
from ncclient.operations import RPCError
from ncclient.transport.errors import AuthenticationError, SSHUnknownHostError
from ncclient.xml_ import to_ele

from domain_twin.emulator.device import Actor, Change, ConfigRejected
from domain_twin.emulator.netconf_server import serve_netconf
from domain_twin.errors import ConfigError

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


@pytest.fixture
async def server(store):
    key = asyncssh.generate_private_key("ssh-ed25519")
    running = await serve_netconf(
        store,
        host="127.0.0.1",
        port=0,
        host_key=key.export_private_key(),
        users={"operator": "s3cret", "second": "other"},
        maximum_message=200_000,
    )
    running.public_key = key.export_public_key().decode().strip()
    yield running
    await running.close()


@pytest.fixture
def ssh_config(server, tmp_path):
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.public_key}\n")
    config = tmp_path / "ssh_config"
    config.write_text(f"Host 127.0.0.1\n  UserKnownHostsFile {known_hosts}\n")
    return str(config)


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


@pytest.fixture
async def client(server, ssh_config):
    async with session(server, ssh_config) as connected:
        yield connected


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


# ---- session ---------------------------------------------------------------


async def test_closing_twice_is_closing_once(server, client):
    await asyncio.gather(server.close(), server.close())
    await server.close()

    assert not server.describe()


async def test_hello_announces_what_the_device_does(client):
    capabilities = list(client.server_capabilities)

    for name in (
        "candidate:1.0",
        "confirmed-commit:1.1",
        "validate:1.1",
        "notification:1.0",
        "yang-library:1.1",
    ):
        assert any(f"capability:{name}" in held for held in capabilities), name
    assert any("module=ietf-interfaces&revision=2018-02-20" in held for held in capabilities)
    assert not any("capability:xpath" in held for held in capabilities)
    assert int(client.session_id) > 0


async def test_wrong_password_and_unknown_user_are_refused(server, ssh_config):
    for username, password in (("operator", "wrong"), ("nobody", "s3cret")):
        with pytest.raises(AuthenticationError):
            async with session(server, ssh_config, username, password):
                pass


async def test_wrong_host_key_is_noticed_by_the_client(server, ssh_config, tmp_path):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {other}")

    with pytest.raises(SSHUnknownHostError):
        async with session(server, ssh_config):
            pass


async def test_port_in_use_names_device_and_address(server, store):
    with pytest.raises(ConfigError, match=rf"warsaw.*127\.0\.0\.1:{server.port}"):
        await serve_netconf(
            store,
            host="127.0.0.1",
            port=server.port,
            host_key=asyncssh.generate_private_key("ssh-ed25519"),
            users={},
        )


async def test_killed_session_loses_lock_and_connection(server, ssh_config, client):
    async with session(server, ssh_config, "second", "other") as other:
        await call(other.lock, "running")
        assert (await refused(call(client.kill_session, client.session_id))).tag == "invalid-value"
        assert (await refused(call(client.kill_session, "4711"))).tag == "invalid-value"
        await call(client.kill_session, other.session_id)
        await until(lambda: not other.connected)
    await until(lambda: not server.datastores.locks)
    await call(client.lock, "running")
    await call(client.unlock, "running")


# ---- get and get-config ----------------------------------------------------


async def test_get_has_configuration_and_state(client):
    data = (await call(client.get, filter=("subtree", f'<interfaces xmlns="{IF}"/>'))).data_ele

    eth0 = data.xpath("//if:interface[if:name='eth0']", namespaces=N)[0]
    assert eth0.findtext(f"{{{IF}}}oper-status") == "up"
    assert eth0.findtext(f"{{{IF}}}statistics/{{{IF}}}in-octets") == "18446744073709551615"
    kind = eth0.find(f"{{{IF}}}type")
    assert kind.text == "ianaift:ethernetCsmacd"
    assert kind.nsmap["ianaift"] == "urn:ietf:params:xml:ns:yang:iana-if-type"


async def test_get_config_has_configuration_only(client):
    text = (await call(client.get_config, "running")).data_xml

    assert "oper-status" not in text
    assert "&lt;to&gt; 'b'" in text
    assert "l3-unicast-topology xmlns" in text
    assert "yang-library" not in text


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (f'<interfaces xmlns="{IF}"><interface><name>eth1</name></interface></interfaces>', {"eth1"}),
        (f'<interfaces xmlns="{IF}"><interface><name/></interface></interfaces>', {"eth0", "eth1"}),
        (f'<interfaces xmlns="{IF}"><interface><name>eth7</name></interface></interfaces>', set()),
        (
            f'<interfaces xmlns="{IF}"><interface><name>eth0</name><speed/></interface>'
            f"<interface><name>eth1</name></interface></interfaces>",
            {"eth0", "eth1"},
        ),
        ('<interfaces xmlns="urn:other"/>', set()),
    ],
)
async def test_subtree_filter_selects(client, wanted, expected):
    data = (await call(client.get, filter=("subtree", wanted))).data_ele
    names = {found.text for found in data.iter(f"{{{IF}}}name")}
    assert names == expected


async def test_content_match_on_a_state_leaf_and_selection_inside(client, store):
    store.put(f"{ETH0}/oper-status", "down")
    wanted = (
        f'<interfaces xmlns="{IF}"><interface><oper-status>down</oper-status>'
        "<statistics><in-errors/></statistics></interface></interfaces>"
    )

    data = (await call(client.get, filter=("subtree", wanted))).data_ele

    (found,) = data.iter(f"{{{IF}}}interface")
    assert [etree.QName(child).localname for child in found] == ["name", "oper-status", "statistics"]
    assert [etree.QName(child).localname for child in found[2]] == ["in-errors"]


async def test_identity_matches_by_namespace_not_by_prefix(client):
    wanted = (
        f'<interfaces xmlns="{IF}"><interface>'
        '<type xmlns:x="urn:ietf:params:xml:ns:yang:iana-if-type">x:ethernetCsmacd</type>'
        "</interface></interfaces>"
    )
    data = (await call(client.get_config, "running", filter=("subtree", wanted))).data_ele
    assert len(list(data.iter(f"{{{IF}}}interface"))) == 2


async def test_empty_filter_selects_nothing(client):
    data = (await call(client.get, filter=to_ele(f'<filter xmlns="{NC}" type="subtree"/>'))).data_ele
    assert len(data) == 0


async def test_xpath_filter_is_refused(client):
    wanted = to_ele(f'<nc:get xmlns:nc="{NC}"><nc:filter type="xpath" select="/interfaces"/></nc:get>')
    error = await refused(call(client.dispatch, wanted))
    assert error.tag == "operation-not-supported"
    assert "subtree" in error.message


async def test_yang_library_and_monitoring_tell_the_modules(client):
    wanted = (
        '<yang-library xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-library"/>'
        '<netconf-state xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring"/>'
    )
    data = (await call(client.get, filter=to_ele(f'<filter xmlns="{NC}">{wanted}</filter>'))).data_ele

    library = data.find("{urn:ietf:params:xml:ns:yang:ietf-yang-library}yang-library")
    modules = {
        m.findtext("{*}name"): m.findtext("{*}revision") for m in library.findall("{*}module-set/{*}module")
    }
    imports = {m.findtext("{*}name") for m in library.findall("{*}module-set/{*}import-only-module")}
    assert modules["ietf-network"] == "2018-02-26"
    assert modules["fedtwin-ran"] == "2026-11-21"
    assert {"ietf-inet-types", "fedtwin-types"} <= imports
    content_id = library.findtext("{*}content-id")
    assert any(f"content-id={content_id}" in held for held in client.server_capabilities)
    sessions = data.findall(".//{*}sessions/{*}session")
    assert [s.findtext("{*}username") for s in sessions] == ["operator"]


async def test_get_schema_gives_every_module_of_the_library(client):
    for name in ("ietf-interfaces", "fedtwin-types", "ietf-inet-types"):
        text = (await call(client.get_schema, name)).data
        assert f"module {name} {{" in text

    assert (await refused(call(client.get_schema, "acme"))).tag == "invalid-value"
    assert (await refused(call(client.get_schema, "ietf-interfaces", "1999-01-01"))).tag == "invalid-value"


# ---- edit-config -----------------------------------------------------------


async def test_candidate_edit_takes_effect_at_commit(client, store):
    await edit(client, "<enabled>false</enabled>")
    assert store.get(f"{ETH0}/enabled") is True
    await call(client.validate, "candidate")
    await call(client.commit)
    assert store.get(f"{ETH0}/enabled") is False


async def test_discard_forgets_the_candidate(client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.discard_changes)
    await call(client.commit)
    assert store.get(f"{ETH0}/enabled") is True


async def test_running_can_be_edited_directly(client, store):
    changes = []
    store.on_config_change = changes.append
    await edit(client, "<enabled>false</enabled><description>a &amp; b</description>", target="running")

    assert [(leaf.path, leaf.old, leaf.new) for leaf in changes[0].leaves] == [
        (f"{ETH0}/enabled", True, False),
        (f"{ETH0}/description", None, "a & b"),
    ]
    assert changes[0].actor == Actor("netconf", "operator", int(client.session_id))


async def test_every_operation_of_edit_config(client, store):
    def described(name):
        return store.get_config(f"/ietf-interfaces:interfaces/interface[name='{name}']")

    kind = '<type xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</type>'
    running = {"target": "running"}
    await edit(client, kind, name="eth2", attributes=' nc:operation="create"', **running)
    assert (
        await refused(edit(client, kind, name="eth2", attributes=' nc:operation="create"', **running))
    ).tag == "data-exists"
    await edit(client, f"{kind}<description>x</description>", name="eth2", **running)
    await edit(client, kind, name="eth2", attributes=' nc:operation="replace"', **running)
    assert "ietf-interfaces:description" not in described("eth2")
    await edit(client, '<description nc:operation="remove"/>', name="eth2", **running)
    assert (
        await refused(edit(client, '<description nc:operation="delete"/>', name="eth2", **running))
    ).tag == "data-missing"
    await edit(client, "", name="eth2", attributes=' nc:operation="delete"', **running)
    assert (
        await refused(edit(client, "", name="eth2", attributes=' nc:operation="delete"', **running))
    ).tag == "data-missing"
    error = await refused(
        edit(client, "<enabled>true</enabled>", name="eth9", default_operation="none", **running)
    )
    assert error.tag == "data-missing"


async def test_replace_by_default_leaves_only_what_is_given(client, store):
    kind = '<type xmlns:i="urn:ietf:params:xml:ns:yang:iana-if-type">i:ethernetCsmacd</type>'
    await edit(client, kind, default_operation="replace")
    await call(client.commit)
    assert store.get_config() == {
        "ietf-interfaces:interfaces": {"interface": [{"name": "eth0", "type": "iana-if-type:ethernetCsmacd"}]}
    }


async def test_leaf_list_entries_come_and_go_one_by_one(client, store):
    gnb = (
        '<config xmlns="{nc}" xmlns:nc="{nc}"><gnb xmlns="urn:fedtwin:yang:fedtwin-ran"><NRCellDU>'
        "<cellLocalId>1</cellLocalId>{inner}</NRCellDU></gnb></config>"
    )
    inner = '<sNSSAIList nc:operation="delete">1</sNSSAIList><sNSSAIList>3</sNSSAIList>'
    await call(client.edit_config, target="running", config=gnb.format(nc=NC, inner=inner))
    assert store.get("/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']/sNSSAIList") == ("2-00000a", "3")


async def test_choice_keeps_one_case(client, store):
    node = (
        f'<config xmlns="{NC}"><networks xmlns="urn:ietf:params:xml:ns:yang:ietf-network"><network>'
        "<network-id>urn:ndt:transport</network-id><node><node-id>urn:ndt:transport:warsaw</node-id>"
        '<termination-point xmlns="urn:ietf:params:xml:ns:yang:ietf-network-topology">'
        "<tp-id>urn:ndt:transport:warsaw:eth0</tp-id><l3-termination-point-attributes "
        'xmlns="urn:ietf:params:xml:ns:yang:ietf-l3-unicast-topology"><unnumbered-id>5</unnumbered-id>'
        "</l3-termination-point-attributes></termination-point></node></network></networks></config>"
    )
    await call(client.edit_config, target="running", config=node)
    held = str(store.get_config("/ietf-network:networks"))
    assert "'unnumbered-id': 5" in held
    assert "interface-name" not in held


@pytest.mark.parametrize(
    ("inner", "tag", "path", "words"),
    [
        (
            "<enabled>maybe</enabled>",
            "invalid-value",
            "/if:interfaces/if:interface[if:name='eth0']/if:enabled",
            "maybe",
        ),
        ("<colour>red</colour>", "unknown-element", "/if:interfaces/if:interface[if:name='eth0']", "colour"),
        ('<colour xmlns="urn:x">red</colour>', "unknown-namespace", None, "urn:x"),
        ("<oper-status>up</oper-status>", "invalid-value", None, "state"),
        ('<enabled nc:operation="frobnicate">true</enabled>', "bad-attribute", None, "frobnicate"),
        ('<enabled colour="red">true</enabled>', "unknown-attribute", None, "colour"),
        ("<type>ethernetCsmacd</type>", "invalid-value", None, "interface-type"),
        ("<enabled><x/></enabled>", "unknown-element", None, "holds no elements"),
    ],
)
async def test_bad_edit_gets_a_proper_error_and_changes_nothing(client, store, inner, tag, path, words):
    before = store.running
    error = await refused(edit(client, f"<description>new</description>{inner}", target="running"))

    assert error.tag == tag
    assert words in error.message
    if path is not None:
        assert error.path.strip() == path
    assert store.running is before


async def test_missing_key_and_missing_mandatory_leaf(client):
    keyless = f'<interfaces xmlns="{IF}"><interface><enabled>true</enabled></interface></interfaces>'
    config = f'<config xmlns="{NC}">{keyless}</config>'
    error = await refused(call(client.edit_config, target="candidate", config=config))
    assert (error.tag, "name" in error.message) == ("missing-element", True)

    await edit(client, "<enabled>true</enabled>", name="eth5")
    error = await refused(call(client.commit))
    assert error.tag == "missing-element"
    assert error.path.strip() == "/if:interfaces/if:interface[if:name='eth5']/if:type"


async def test_device_may_refuse_a_change(client, store):
    def refuse(change):
        raise ConfigRejected(change.leaves[0].path, "the management network runs over it", "operation-failed")

    store.validate_config = refuse
    error = await refused(edit(client, "<enabled>false</enabled>", target="running"))
    assert error.tag == "operation-failed"
    assert "management network" in error.message
    assert store.get(f"{ETH0}/enabled") is True


async def test_fault_inside_the_device_is_an_answer_not_a_lost_session(client, store):
    def fail(change):
        raise ZeroDivisionError

    store.validate_config = fail
    error = await refused(edit(client, "<enabled>false</enabled>", target="running"))
    assert error.tag == "operation-failed"
    assert (await call(client.get_config, "running")).ok


async def test_copy_config_and_unknown_targets(client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.copy_config, "candidate", "running")
    assert store.get(f"{ETH0}/enabled") is False
    for attempt in (
        call(client.get_config, "startup"),
        call(client.delete_config, "running"),
        call(client.dispatch, to_ele('<reboot xmlns="urn:acme"/>')),
    ):
        assert (await refused(attempt)).tag in ("invalid-value", "operation-not-supported")


# ---- locks -----------------------------------------------------------------


async def test_lock_keeps_everybody_else_out(server, ssh_config, client, store):
    async with session(server, ssh_config, "second", "other") as other:
        await call(client.lock, "candidate")
        await call(client.lock, "running")
        denied = await refused(call(other.lock, "running"))
        assert denied.tag == "lock-denied"
        assert f"session {client.session_id}" in denied.message
        assert f"<session-id>{client.session_id}</session-id>" in str(denied.info)
        assert (await refused(edit(other, "<enabled>false</enabled>"))).tag == "in-use"
        assert (await refused(edit(other, "<enabled>false</enabled>", target="running"))).tag == "in-use"
        assert (await refused(call(other.commit))).tag == "in-use"
        assert (await refused(call(other.unlock, "running"))).tag == "operation-failed"
        with pytest.raises(ConfigRejected, match="locked by NETCONF session"):
            store.edit([Change("merge", f"{ETH0}/enabled", False)], Actor("gnmi"))
        await edit(client, "<enabled>false</enabled>")
        await call(client.commit)
        await call(client.unlock, "running")
        await call(client.unlock, "candidate")
        await call(other.lock, "running")


async def test_changed_candidate_cannot_be_locked_and_lock_ends_with_its_session(server, ssh_config, client):
    await edit(client, "<enabled>false</enabled>")
    assert (await refused(call(client.lock, "candidate"))).tag == "lock-denied"
    await call(client.discard_changes)

    async with session(server, ssh_config, "second", "other") as other:
        await call(other.lock, "candidate")
        await edit(other, "<enabled>false</enabled>")
    await until(lambda: not server.datastores.locks)
    text = (await call(client.get_config, "candidate")).data_xml
    assert "<enabled>false</enabled>" not in text


# ---- confirmed commit ------------------------------------------------------


async def test_confirmed_commit_rolls_back_by_itself(client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True, timeout="1")
    assert store.get(f"{ETH0}/enabled") is False
    await until(lambda: store.get(f"{ETH0}/enabled") is True)


async def test_confirmed_commit_stays_when_confirmed(server, client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True, timeout="1")
    await call(client.commit)
    await asyncio.sleep(1.2)
    assert store.get(f"{ETH0}/enabled") is False


async def test_confirmed_commit_is_cancelled(client, store):
    assert (await refused(call(client.cancel_commit))).tag == "operation-failed"
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True)
    await call(client.cancel_commit)
    assert store.get(f"{ETH0}/enabled") is True


async def test_second_confirmed_commit_extends_and_rolls_back_to_the_beginning(client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True, timeout="60")
    await edit(client, "<description>second</description>")
    await call(client.commit, confirmed=True, timeout="1")
    assert store.get(f"{ETH0}/description") == "second"
    await until(lambda: store.get(f"{ETH0}/enabled") is True)
    assert store.leaf(f"{ETH0}/description") is None


async def test_confirmed_commit_ends_with_its_session(server, ssh_config, store):
    async with session(server, ssh_config) as client:
        await edit(client, "<enabled>false</enabled>")
        await call(client.commit, confirmed=True, timeout="600")
        assert store.get(f"{ETH0}/enabled") is False
    await until(lambda: store.get(f"{ETH0}/enabled") is True)


async def test_persistent_confirmed_commit_needs_its_id(server, ssh_config, client, store):
    async with session(server, ssh_config) as first:
        await edit(first, "<enabled>false</enabled>")
        await call(first.commit, confirmed=True, timeout="600", persist="change-17")
    await until(lambda: len(server.describe()) == 1)
    assert store.get(f"{ETH0}/enabled") is False

    assert (await refused(call(client.commit, persist_id="change-18"))).tag == "invalid-value"
    assert (await refused(call(client.commit))).tag == "in-use"
    assert (await refused(call(client.cancel_commit, persist_id="nonsense"))).tag == "invalid-value"
    with pytest.raises(ConfigRejected, match="waits for its confirmation"):
        store.edit([Change("merge", f"{ETH0}/enabled", True)], Actor("gnmi"))
    await call(client.commit, persist_id="change-17")
    assert store.get(f"{ETH0}/enabled") is False
    store.edit([Change("merge", f"{ETH0}/enabled", True)], Actor("gnmi"))


async def test_server_that_goes_down_takes_an_unconfirmed_commit_back(server, client, store):
    await edit(client, "<enabled>false</enabled>")
    await call(client.commit, confirmed=True, timeout="600", persist="p")
    await server.close()
    assert store.get(f"{ETH0}/enabled") is True
    assert store.guard is None


async def test_other_session_cannot_confirm_or_lock_meanwhile(server, ssh_config, client):
    async with session(server, ssh_config, "second", "other") as other:
        await edit(client, "<enabled>false</enabled>")
        await call(client.commit, confirmed=True)
        assert (await refused(call(other.commit))).tag == "in-use"
        assert (await refused(call(other.lock, "running"))).tag == "lock-denied"
        await call(client.commit)


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


# ---- rubbish ---------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw(server):
    """A bare NETCONF 1.0 session: send text, read text."""
    async with (
        asyncssh.connect(
            "127.0.0.1", server.port, username="operator", password="s3cret", known_hosts=None, config=None
        ) as connection,
        connection.create_process(subsystem="netconf", encoding=None) as process,
    ):
        await process.stdout.readuntil(b"]]>]]>")

        async def ask(text):
            process.stdin.write(text.encode() + b"]]>]]>")
            async with asyncio.timeout(10):
                return (await process.stdout.readuntil(b"]]>]]>"))[:-6].decode()

        process.stdin.write(
            f'<hello xmlns="{NC}"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability>'
            "</capabilities></hello>]]>]]>".encode()
        )
        yield ask


async def test_rubbish_is_answered_and_the_session_goes_on(server):
    async with raw(server) as ask:
        assert "malformed-message" in await ask("<rpc")
        bomb = f'<!DOCTYPE r [<!ENTITY a "x">]><rpc xmlns="{NC}" message-id="1"><get/>&a;</rpc>'
        assert "malformed-message" in await ask(bomb)
        assert "missing-attribute" in await ask(f'<rpc xmlns="{NC}"><get/></rpc>')
        assert "malformed-message" in await ask("<hello/>")
        reply = await ask(
            f'<rpc xmlns="{NC}" message-id="&lt;7" xmlns:u="urn:u" u:tag="v"><get-config/></rpc>'
        )
        assert 'message-id="&lt;7"' in reply
        assert 'tag="v"' in reply
        assert "missing-element" in reply
        answer = await ask(f'<rpc xmlns="{NC}" message-id="2"><lock><target><running/></target></lock></rpc>')
        assert "<ok/>" in answer


async def test_oversize_message_is_refused_and_the_session_ends(server):
    async with raw(server) as ask:
        reply = await ask(f'<rpc xmlns="{NC}" message-id="1"><get>{" " * 300_000}</get></rpc>')
        assert "too-big" in reply
        with pytest.raises((asyncio.IncompleteReadError, BrokenPipeError)):
            await ask(f'<rpc xmlns="{NC}" message-id="2"><get/></rpc>')


async def test_shell_and_commands_are_refused(server):
    async with asyncssh.connect(
        "127.0.0.1", server.port, username="operator", password="s3cret", known_hosts=None, config=None
    ) as connection:
        result = await connection.run("id", check=False)
        assert result.exit_status == 1
        assert not result.stdout
