"""Schema trees from pyang's wheel, from folders and from devices; modules that cannot be loaded."""

from __future__ import annotations

import pytest

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.yang.paths import Step
from domain_twin.yang.schema import NodeKind, SchemaSet

IF = "/ietf-interfaces:interfaces/interface"

GOOD = """
module good {
  namespace "urn:good"; prefix g;
  container box {
    presence "it is there";
    leaf size { type uint8; }
    list drawer { key "row col"; leaf col { type uint8; } leaf row { type string; } }
    list log { config false; leaf line { type string; } }
    choice a { case b { leaf c { type string; } } }
  }
}
"""
OPENCONFIG = """
module openconfig-boxes {
  namespace "urn:oc:boxes"; prefix oc-box;
  container boxes {
    list box { key "id"; leaf id { type string; } container state { leaf count { type uint64; } } }
  }
}
"""
AUGMENT = """
module grow {
  namespace "urn:grow"; prefix w; import good { prefix g; }
  augment "/g:box" { leaf size { type string; } leaf more { type string; } }
}
"""


@pytest.fixture(scope="module")
def schema():
    return SchemaSet.load(["ietf-interfaces", "fedtwin-ran", "fedtwin-inter-domain"])


@pytest.fixture
def folder(tmp_path):
    def write(**modules):
        for name, text in modules.items():
            (tmp_path / f"{name.replace('_', '-')}.yang").write_text(text)
        return tmp_path

    return write


def test_all_modules_that_ship_load_without_an_error():
    schema = SchemaSet.load()

    assert schema.report.failed == {}
    assert len(schema.modules) > 60
    for top in schema.tops.values():
        for node in top.walk():
            if node.is_leaf:
                assert node.codec.type_name


def test_nodes_are_found_with_and_without_keys(schema):
    node = schema.node(f"{IF}[name='eth0']/statistics/in-octets")

    assert node is schema.node(f"{IF}/statistics/in-octets")
    assert node.kind is NodeKind.LEAF
    assert node.config is False
    assert schema.node(IF).keys == ("name",)
    assert schema.node(f"{IF}/nope") is None


def test_augmented_nodes_carry_their_own_module(schema):
    path = (
        "/ietf-network:networks/network/node/ietf-network-topology:termination-point"
        "/fedtwin-inter-domain:inter-domain"
    )

    assert schema.node(path).module == "fedtwin-inter-domain"
    assert schema.node(path).presence


@pytest.mark.parametrize(
    ("steps", "origin", "canonical"),
    [
        ([Step("ietf-interfaces", "interfaces")], "", "/ietf-interfaces:interfaces"),
        ([Step("", "interfaces")], "", "/ietf-interfaces:interfaces"),
        ([Step("", "interfaces")], "ietf-interfaces", "/ietf-interfaces:interfaces"),
        ([Step("", "interfaces")], "rfc7951", "/ietf-interfaces:interfaces"),
        (
            [Step("", "interfaces"), Step("ietf-interfaces", "interface", (("name", "a'b"),))],
            "",
            '/ietf-interfaces:interfaces/interface[name="a\'b"]',
        ),
    ],
)
def test_loose_steps_become_canonical(schema, steps, origin, canonical):
    assert schema.canonical(steps, origin) == canonical


def test_origin_openconfig_chooses_its_modules():
    schema = SchemaSet.load(
        ["openconfig-boxes", "boxes-too"],
        texts={
            "openconfig-boxes": OPENCONFIG,
            "boxes-too": 'module boxes-too { namespace "urn:b"; prefix b;'
            " container boxes { leaf x { type string; } } }",
        },
    )
    steps = [Step("", "boxes"), Step("", "box", (("id", "1"),)), Step("", "state"), Step("", "count")]

    assert schema.canonical(steps, "openconfig") == "/openconfig-boxes:boxes/box[id='1']/state/count"
    with pytest.raises(SchemaViolation, match="no node 'boxes' at the top"):
        schema.canonical(steps)  # two modules have one: nothing is guessed


def test_keys_come_into_schema_order_and_canonical_form(folder):
    schema = SchemaSet.load(["good"], [folder(good=GOOD)])
    steps = [Step("good", "box"), Step("", "drawer", (("col", "+7"), ("row", "x")))]

    assert schema.canonical(steps) == "/good:box/drawer[row='x'][col='7']"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (f"{IF}[name='eth0']/nope", "no such node"),
        ("/nowhere:top", "module nowhere is not among them"),
        (f"{IF}/oper-status", "without its keys name"),
        (f"{IF}[id='eth0']/oper-status", "has the keys name"),
        ("/fedtwin-ran:gnb/NRCellDU[cellLocalId='99999']/nRPCI", "outside 0 .. 16383"),
        (f"{IF}[name='eth0'", "no such node"),
    ],
)
def test_instance_that_cannot_be_is_refused(schema, path, reason):
    with pytest.raises(SchemaViolation, match=reason):
        schema.resolve(path)


def test_choices_are_transparent_and_keyless_lists_have_positions(folder):
    schema = SchemaSet.load(["good"], [folder(good=GOOD)])

    assert schema.node("/good:box/c").kind is NodeKind.LEAF
    assert schema.resolve("/good:box/log[3]/line").codec.native("x") == "x"


def test_same_name_of_two_modules_is_told_apart(folder):
    schema = SchemaSet.load(["good", "grow"], [folder(good=GOOD, grow=AUGMENT)])

    assert schema.node("/good:box/size").codec.native(5) == 5
    assert schema.node("/good:box/grow:size").codec.native("5") == "5"
    assert schema.canonical([Step("", "box"), Step("", "size")]) == "/good:box/size"
    assert schema.canonical([Step("", "box"), Step("", "more")]) == "/good:box/grow:more"


def test_module_that_does_not_parse_fails_alone(folder):
    where = folder(good=GOOD, broken='module broken {\n  namespace "urn:x";\n  prefix x;\n  container {\n')
    schema = SchemaSet.load(["good", "broken", "ietf-interfaces"], [where])

    assert set(schema.report.failed) == {"broken"}
    assert str(schema.report.failed["broken"]).startswith("YANG module broken (")
    assert "broken.yang, line 4)" in str(schema.report.failed["broken"])
    assert schema.node("/good:box") is not None
    assert schema.node(IF) is not None
    with pytest.raises(SchemaError, match="broken"):
        schema.require("good", "broken")


def test_missing_import_is_named_with_file_line_and_remedy(folder):
    where = folder(
        good=GOOD,
        lacking='module lacking {\n  namespace "urn:l";\n  prefix l;\n  import vendor-types { prefix v; }\n'
        "  leaf a { type v:thing; }\n}\n",
    )
    schema = SchemaSet.load(["good", "lacking"], [where])

    message = str(schema.report.failed["lacking"])
    assert set(schema.report.failed) == {"lacking"}
    assert "lacking.yang, line 4) imports vendor-types" in message
    assert "vendor-types.yang to [yang] directories" in message


def test_what_depends_on_a_failed_module_fails_with_it(folder):
    where = folder(good=GOOD.replace("type uint8", "type nonsense"), grow=AUGMENT)
    schema = SchemaSet.load(["good", "grow", "fedtwin-ran"], [where])

    assert set(schema.report.failed) == {"good", "grow"}
    assert "needs good, which failed" in str(schema.report.failed["grow"])
    assert schema.node("/fedtwin-ran:gnb") is not None


def test_unknown_module_is_named():
    schema = SchemaSet.load(["no-such-module", "fedtwin-ran"])

    assert "no-such-module" in str(schema.report.failed["no-such-module"])
    assert "fedtwin-ran" in schema.modules


def test_the_device_s_text_wins_over_the_folder(folder):
    schema = SchemaSet.load(["good"], [folder(good=GOOD)], texts={"good": GOOD.replace("box", "chest")})

    assert schema.node("/good:chest") is not None
    assert schema.node("/good:box") is None
    assert schema.modules["good"].source == "device:good"


def test_folder_wins_over_what_ships(folder):
    text = 'module ietf-interfaces { namespace "urn:mine"; prefix m; leaf own { type string; } }'
    schema = SchemaSet.load(["ietf-interfaces"], [folder(ietf_interfaces=text)])

    assert list(schema.tops) == ["ietf-interfaces:own"]
