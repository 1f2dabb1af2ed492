"""Edits of an emulated device over NETCONF: candidate, locks, confirmed commits (RFC 6241 8)."""

import asyncio

import pytest
from ncclient.xml_ import to_ele
from netconf_client import ETH0, IF, NC, call, edit, refused, session, until

from domain_twin.emulator.device import Actor, Change, ConfigRejected

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
