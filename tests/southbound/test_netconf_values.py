"""Every kind of value, written and read: by both clients, against the emulated device and a hostile one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal

import asyncssh
import pytest
from hostile_netconf import Hostile, hello, listening

from domain_twin.config import NetconfConfig
from domain_twin.emulator.device import DeviceDatastore, load_schema
from domain_twin.emulator.netconf_server import serve_netconf
from domain_twin.resources import data_folder, standard_yang_folders
from domain_twin.southbound.base import Edit, Operation
from domain_twin.southbound.netconf import NetconfSession
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

NAMESPACE = "urn:example:every-value"
COLOURS = "urn:example:colours"
MODULE = f"""
module every-value {{
  yang-version 1.1; namespace "{NAMESPACE}"; prefix ev;
  import colours {{ prefix c; }}
  container all {{
    leaf small {{ type int8; }}
    leaf wide {{ type uint64; }}
    leaf long {{ type int64; }}
    leaf share {{ type decimal64 {{ fraction-digits 6; }} }}
    leaf yes {{ type boolean; }}
    leaf word {{ type string; }}
    leaf enum {{ type enumeration {{ enum "two words"; enum b; }} }}
    leaf flags {{ type bits {{ bit low; bit high; bit top; }} }}
    leaf octets {{ type binary; }}
    leaf there {{ type empty; }}
    leaf colour {{ type identityref {{ base c:colour; }} }}
    leaf either {{ type union {{ type uint8; type identityref {{ base c:colour; }} type string; }} }}
    leaf with-default {{ type string; default "usual"; }}
    leaf where {{ type instance-identifier {{ require-instance false; }} }}
    leaf-list words {{ type string; ordered-by user; }}
    leaf-list colours {{ type identityref {{ base c:colour; }} }}
    leaf-list numbers {{ type union {{ type int32; type string; }} }}
    container marked {{ presence "it is"; leaf inside {{ type string; }} }}
    choice way {{ case a {{ leaf by-air {{ type string; }} }} case s {{ leaf by-sea {{ type string; }} }} }}
    list entry {{
      key "name colour"; ordered-by user;
      leaf name {{ type string; }}
      leaf colour {{ type identityref {{ base c:colour; }} }}
      leaf value {{ type string; }}
      list inner {{ key id; leaf id {{ type uint8; }} leaf-list tags {{ type string; }} }}
    }}
  }}
}}
"""
COLOURS_MODULE = f"""
module colours {{
  yang-version 1.1; namespace "{COLOURS}"; prefix col;
  identity colour; identity red {{ base colour; }} identity blue {{ base colour; }}
}}
"""
ALL = "/every-value:all"
ENTRY = f"{ALL}/entry[name='a'][colour='colours:red']"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("yang")
    (made / "every-value.yang").write_text(MODULE)
    (made / "colours.yang").write_text(COLOURS_MODULE)
    return made


@pytest.fixture(scope="module")
def schema(folder):
    return SchemaSet.load(["every-value", "colours"], [folder])


@pytest.fixture(params=["asyncssh", "ncclient"])
def config(tmp_path, request):
    def made(port, host_key):
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
        (tmp_path / "password").write_text("s3cret")
        (tmp_path / "password").chmod(0o600)
        return NetconfConfig(
            address=f"127.0.0.1:{port}",
            known_hosts=tmp_path / "known_hosts",
            username="twin",
            password=f"file:{tmp_path}/password",
            client=request.param,
        )

    return made


@pytest.fixture
def device(folder, schema, config):
    """A session to an emulated device that runs every-value."""

    @asynccontextmanager
    async def running():
        folders = (folder, data_folder("yang"), *standard_yang_folders())
        store = DeviceDatastore("warsaw", load_schema(("every-value", "colours"), folders))
        store.load({}, {})
        key = asyncssh.generate_private_key("ssh-ed25519")
        server = await serve_netconf(store, host="127.0.0.1", port=0, host_key=key, users={"twin": "s3cret"})
        try:
            host_key = key.export_public_key().decode().strip()
            async with NetconfSession("warsaw", config(server.port, host_key), schema) as session:
                yield session
        finally:
            await server.close()

    return running


async def held(session, schema):
    """All leaves now, typed; nothing may be quarantined."""
    batch, bad = Typer(schema).type_batch(await session.get([ALL]))
    assert bad == ()
    return {update.path: update.value for update in batch.updates}


AWKWARD = "<&>\"' ]]>]]> \n#5\n##\n\tżółw 🐢 "
WRITES = [
    ("int8", f"{ALL}/small", -128),
    ("uint64", f"{ALL}/wide", 2**64 - 1),
    ("int64", f"{ALL}/long", -(2**63)),
    ("decimal64", f"{ALL}/share", Decimal("-0.000001")),
    ("boolean", f"{ALL}/yes", False),
    ("string", f"{ALL}/word", AWKWARD),
    ("empty string", f"{ALL}/word", ""),
    ("only blanks", f"{ALL}/word", "  \n "),
    ("delimiters", f"{ALL}/word", "]]>]]>\n##\n"),
    ("long string", f"{ALL}/word", "0123456789" * 20_000),
    ("enumeration", f"{ALL}/enum", "two words"),
    ("bits", f"{ALL}/flags", "low top"),
    ("binary", f"{ALL}/octets", b"\x00\xff\x10]]>]]>"),
    ("empty", f"{ALL}/there", None),
    ("identity", f"{ALL}/colour", "colours:blue"),
    ("union number", f"{ALL}/either", 7),
    ("union identity", f"{ALL}/either", "colours:red"),
    ("union string", f"{ALL}/either", "colours:green?"),
    ("default", f"{ALL}/with-default", "usual"),
    ("leaf-list", f"{ALL}/words", ("b", "a", AWKWARD)),
    ("leaf-list of identities", f"{ALL}/colours", ("colours:red", "colours:blue")),
    ("leaf-list of unions", f"{ALL}/numbers", (5, "five")),
    ("inside presence", f"{ALL}/marked/inside", "x"),
    ("case", f"{ALL}/by-sea", "ship"),
    ("entry", f"{ENTRY}/value", "v"),
    ("entry with quotes", f"{ALL}/entry[name=\"it's\"][colour='colours:blue']/value", "v"),
    ("nested entry", f"{ENTRY}/inner[id='9']/tags", ("t1", "t2")),
]


async def test_every_value_survives_writing_and_reading(device, schema):
    async with device() as session:
        for name, path, value in WRITES:
            await session.edit([Edit(path, value)])
            found = await held(session, schema)
            assert (name, found.get(path, "missing")) == (name, value)
            assert type(found[path]) is type(value)
            if name != "default":
                await session.edit([Edit(ALL, operation=Operation.DELETE)])
                assert await held(session, schema) == {}


BEFORE = [
    Edit(f"{ALL}/word", "old"),
    Edit(f"{ALL}/by-air", "plane"),
    Edit(f"{ALL}/there", None),
    Edit(f"{ALL}/words", ("a", "b")),
    Edit(f"{ALL}/colours", ("colours:red",)),
    Edit(f"{ENTRY}/value", "v"),
    Edit(f"{ENTRY}/inner[id='1']/tags", ("t",)),
    Edit(f"{ALL}/marked/inside", "x"),
]
DELETE, REPLACE = Operation.DELETE, Operation.REPLACE
OPERATIONS = [
    ("merge", Edit(f"{ALL}/word", "new"), [], {f"{ALL}/word": "new"}),
    ("replace leaf", Edit(f"{ALL}/word", "new", REPLACE), [], {f"{ALL}/word": "new"}),
    ("delete leaf", Edit(f"{ALL}/word", operation=DELETE), [f"{ALL}/word"], {}),
    ("delete empty leaf", Edit(f"{ALL}/there", operation=DELETE), [f"{ALL}/there"], {}),
    ("other case", Edit(f"{ALL}/by-sea", "ship"), [f"{ALL}/by-air"], {f"{ALL}/by-sea": "ship"}),
    ("leaf-list merge", Edit(f"{ALL}/words", ("c",)), [], {f"{ALL}/words": ("a", "b", "c")}),
    ("leaf-list entry", Edit(f"{ALL}/words[.='c']"), [], {f"{ALL}/words": ("a", "b", "c")}),
    ("leaf-list delete", Edit(f"{ALL}/words[.='a']", operation=DELETE), [], {f"{ALL}/words": ("b",)}),
    (
        "leaf-list identity delete",
        Edit(f"{ALL}/colours[.='colours:red']", operation=DELETE),
        [f"{ALL}/colours"],
        {},
    ),
    ("entry delete", Edit(ENTRY, operation=DELETE), [ENTRY], {}),
    (
        "entry replace",
        Edit(ENTRY, operation=REPLACE),
        [f"{ENTRY}/value", f"{ENTRY}/inner[id='1']"],
        {},
    ),
    ("inner delete", Edit(f"{ENTRY}/inner[id='1']", operation=DELETE), [f"{ENTRY}/inner[id='1']"], {}),
    ("presence delete", Edit(f"{ALL}/marked", operation=DELETE), [f"{ALL}/marked"], {}),
    ("presence replace", Edit(f"{ALL}/marked", operation=REPLACE), [f"{ALL}/marked/inside"], {}),
    ("container delete", Edit(ALL, operation=DELETE), [ALL], {}),
]


async def test_every_operation_does_what_it_says_and_no_more(device, schema):
    async with device() as session:
        for name, edit, gone, come in OPERATIONS:
            await session.edit(BEFORE)
            expected = {
                path: value
                for path, value in (await held(session, schema)).items()
                if not any(path == top or path.startswith(top + "/") for top in gone)
            } | come
            await session.edit([edit])
            assert (name, await held(session, schema)) == (name, expected)
            if expected:
                await session.edit([Edit(ALL, operation=DELETE)])


E, N, C = f'xmlns="{NAMESPACE}"', NAMESPACE, COLOURS
NC = "urn:ietf:params:xml:ns:netconf:base:1.0"
READS = [
    ("odd prefix", f'<ietf-x:all xmlns:ietf-x="{N}"><ietf-x:small>1</ietf-x:small></ietf-x:all>', "small", 1),
    ("blanks", f"<all {E}><small> \n 1\t</small></all>", "small", 1),
    ("blanks kept in strings", f"<all {E}><word> a </word></all>", "word", " a "),
    ("CDATA", f"<all {E}><word><![CDATA[<a>&amp;]]></word></all>", "word", "<a>&amp;"),
    ("CDATA in parts", f"<all {E}><word>a<![CDATA[b]]>c</word></all>", "word", "abc"),
    ("comment inside", f"<all {E}><word>a<!-- no -->b</word></all>", "word", "ab"),
    ("instruction inside", f"<all {E}><word>a<?no no?>b</word></all>", "word", "ab"),
    ("character reference", f"<all {E}><word>&#x17C;&#10;&lt;</word></all>", "word", "ż\n<"),
    ("self-closing empty", f"<all {E}><there/></all>", "there", None),
    ("empty with blanks", f"<all {E}><there> \n</there></all>", "there", None),
    ("self-closing string", f"<all {E}><word/></all>", "word", ""),
    (
        "identity by odd prefix",
        f'<all {E}><colour xmlns:ev="{C}">ev:red</colour></all>',
        "colour",
        "colours:red",
    ),
    ("prefix from above", f'<all {E} xmlns:q="{C}"><colour>q:red</colour></all>', "colour", "colours:red"),
    (
        "prefix bound anew",
        f'<all {E} xmlns:q="urn:else"><colour xmlns:q="{C}"> q:red </colour></all>',
        "colour",
        "colours:red",
    ),
    (
        "identity by default namespace",
        f'<e:all xmlns:e="{N}" xmlns="{C}"><e:colour>blue</e:colour></e:all>',
        "colour",
        "colours:blue",
    ),
    ("union identity", f'<all {E}><either xmlns:z="{C}">z:red</either></all>', "either", "colours:red"),
    ("union number", f"<all {E}><either>7</either></all>", "either", 7),
    ("union text", f"<all {E}><either>seven</either></all>", "either", "seven"),
    ("attributes", f'<all {E}><small a="b" xmlns:w="urn:w" w:default="true">1</small></all>', "small", 1),
    (
        "operation attribute",
        f'<all {E}><small xmlns:nc="{NC}" nc:operation="delete">1</small></all>',
        "small",
        1,
    ),
    ("plus and zeros", f"<all {E}><small>+007</small></all>", "small", 7),
    ("decimal", f"<all {E}><share>1.50</share></all>", "share", Decimal("1.500000")),
    ("boolean", f"<all {E}><yes>true</yes></all>", "yes", True),
    ("bits in another order", f"<all {E}><flags>top  low</flags></all>", "flags", "low top"),
    ("binary in lines", f"<all {E}><octets>AP8Q\n XQ==</octets></all>", "octets", b"\x00\xff\x10]"),
    (
        "leaf-list apart",
        f"<all {E}><words>a</words><small>1</small><words>b</words></all>",
        "words",
        ("a", "b"),
    ),
    (
        "leaf-list of identities, each its prefix",
        f'<all {E}><colours xmlns:a="{C}">a:red</colours><colours xmlns:b="{C}">b:blue</colours></all>',
        "colours",
        ("colours:red", "colours:blue"),
    ),
    (
        "keys at the end, an identity by prefix",
        f'<all {E}><entry><value>v</value><colour xmlns:k="{C}">k:red</colour><name>a</name></entry></all>',
        "entry[name='a'][colour='colours:red']/value",
        "v",
    ),
    (
        "instance-identifier by odd prefixes",
        f'<all {E}><where xmlns:w="{N}" xmlns:r="{C}">/w:all/w:word</where></all>',
        "where",
        f"{ALL}/word",
    ),
    ("top-level twice", f"<all {E}><small>1</small></all><all {E}><word>w</word></all>", "word", "w"),
]


async def test_every_spelling_is_read(schema, config):
    spellings = {name: text for name, text, _, _ in READS}
    name = ""

    async def answer(session, message_id, rpc):
        session.reply(message_id, f"<data>{spellings[name]}</data>")

    capabilities = ("urn:ietf:params:netconf:base:1.1", f"{NAMESPACE}?module=every-value")
    async with (
        listening(Hostile(hello=hello(capabilities), answer=answer)) as server,
        NetconfSession("warsaw", config(server.port, server.host_key), schema) as session,
    ):
        for name, _, path, value in READS:
            found = await held(session, schema)
            assert (name, found.get(f"{ALL}/{path}", found)) == (name, value)
            assert type(found[f"{ALL}/{path}"]) is type(value)
