"""An emulated NETCONF server: sessions, reading, and what is not NETCONF (ncclient and raw SSH)."""

import asyncio
import contextlib

import asyncssh
import pytest
from lxml import etree
from ncclient.transport.errors import AuthenticationError, SSHUnknownHostError
from ncclient.xml_ import to_ele
from netconf_client import ETH0, IF, NC, N, call, refused, session, until

from domain_twin.emulator.netconf_server import serve_netconf
from domain_twin.errors import ConfigError

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
