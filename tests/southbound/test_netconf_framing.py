"""Frames of RFC 6242 in any pieces, and XML in any pieces."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from pydantic import ValidationError

from domain_twin.config import NetconfConfig
from domain_twin.southbound.netconf_framing import Framing, encode
from domain_twin.southbound.netconf_messages import MessageParser

TEXTS = st.lists(
    st.binary(min_size=1, max_size=40).filter(lambda m: b"]]>]]>" not in m + b"]]>]]"), max_size=4
)


def pieces(octets, cuts):
    places = sorted({min(cut, len(octets)) for cut in cuts} | {0, len(octets)})
    return [octets[start:end] for start, end in pairwise(places)]


def messages(framing, parts):
    out, present = [], b""
    for part in parts:
        for piece in framing.feed(part):
            if piece is None:
                out.append(present)
                present = b""
            else:
                present += piece
    return out


@given(TEXTS, st.lists(st.integers(0, 300), max_size=20), st.booleans())
def test_messages_survive_any_cutting(texts, cuts, chunked):
    framing = Framing(1000)
    framing.chunked = chunked
    octets = b"".join(encode(text, chunked=chunked) for text in texts)

    assert messages(framing, pieces(octets, cuts)) == texts


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=5), st.lists(st.integers(0, 200)))
def test_chunks_of_any_size_are_one_message(chunks, cuts):
    framing = Framing(1000)
    framing.chunked = True
    octets = b"".join(b"\n#%d\n%b" % (len(chunk), chunk) for chunk in chunks) + b"\n##\n"

    assert messages(framing, pieces(octets, cuts)) == [b"".join(chunks)]


@given(st.binary(max_size=60), st.booleans())
def test_any_octets_are_messages_wait_or_are_refused(octets, chunked):
    framing = Framing(50)
    framing.chunked = chunked
    found = []
    with suppress(ValueError):
        found = messages(framing, [octets])

    assert all(len(message) <= 50 for message in found)


PLAIN = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")


@given(st.text(PLAIN), st.lists(st.integers(0, 200)))
def test_xml_survives_any_cutting_and_the_parser_goes_on(text, cuts):
    element = etree.Element("{urn:x}a", note=text)
    element.text = text
    octets = etree.tostring(element, encoding="utf-8")
    parser = MessageParser()
    for _ in range(2):
        for piece in pieces(octets, cuts):
            parser.feed(piece)
        root, size = parser.end()
        assert (root.text or "", root.get("note"), size) == (text, text, len(octets))


def config(**changes):
    return NetconfConfig(address="h:830", known_hosts="k", username="u", **changes)


@pytest.mark.parametrize(
    ("changes", "ncclient"),
    [
        ({}, False),
        ({"vendor": "junos"}, True),
        ({"client": "ncclient"}, True),
        ({"client": "asyncssh"}, False),
        ({"client": "ncclient", "vendor": "iosxe"}, True),
    ],
)
def test_the_client_follows_from_the_configuration(changes, ncclient):
    assert config(**changes).uses_ncclient is ncclient


def test_vendor_handlers_and_asyncssh_do_not_go_together():
    with pytest.raises(ValidationError, match=r"vendor handlers are ncclient's"):
        config(client="asyncssh", vendor="junos")
