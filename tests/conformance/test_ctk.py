"""TM Forum's public conformance kits, run by newman: `TMF_CTK_DIR=kits pytest -m ctk tests/conformance`.

They run in front of a store that decides nothing, since they order and test what no exchange has. A pass says
"passes the public kit (name, commit)": the HTTP face, and no more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from ctk_kits import BASES, Kit, judged, kits, newman, run, waivers

sys.path.insert(0, str(Path(__file__).parents[1] / "tmf630"))

from tmf630_server import own_server, sandbox
from tmf630_suite import Suite
from tmf630_table import TARGETS

pytestmark = [pytest.mark.ctk, pytest.mark.slow, pytest.mark.timeout(1800)]
SEEDED = {
    "TMF633": (
        *("serviceCatalog", "serviceCategory", "serviceCandidate", "serviceSpecification"),
        *("importJob", "exportJob"),
    ),
    "TMF638": ("service", "service"),
    "TMF639": ("resource", "resource"),
    "TMF641": ("serviceOrder",),
    "TMF642": ("alarm", "alarm"),
    "TMF653": ("serviceTestSpecification", "serviceTest"),
}
"""What kits expect to find there."""


@pytest.fixture(scope="module")
def found() -> list[Kit]:
    named = os.environ.get("TMF_CTK_DIR")
    if not named:
        pytest.skip(
            "TMF_CTK_DIR is not set: NO CONFORMANCE KIT WAS RUN. Clone the kits of"
            f" {', '.join(BASES)} into one folder, a sub-folder each, and set TMF_CTK_DIR to it"
        )
    return kits(Path(named))


@pytest.fixture(scope="module")
def command() -> list[str]:
    told = newman()
    if isinstance(told, str):
        pytest.skip(f"NO CONFORMANCE KIT WAS RUN: {told}")
    return told


def test_kits_pass(found: list[Kit], command: list[str], tmp_path: Path) -> None:
    failed, told = [], []
    for place, kit in enumerate(found):
        folder = tmp_path / str(place)
        folder.mkdir()
        with own_server(folder / "server", decide=sandbox, dialects=["v3"]) as server:
            address = server.listen()
            with server.client(address) as http:
                suite = Suite(http, TARGETS)
                for path in SEEDED[kit.number]:
                    suite.make(suite.targets[path])
            report = run(kit, command, address, server.token, folder)
        assert report.assertions, f"{kit.name}: asserts nothing"
        failed += report.failed
        told.append(f"{kit.name} ({kit.identity}): {report.assertions} asserted, {len(report.failed)} failed")
    print("\n".join([*told, *map(str, failed)]))
    unexpected, unneeded = judged(failed, waivers(), [kit.number for kit in found])

    assert not unexpected, "\n".join(map(str, unexpected))
    assert not unneeded, f"waived, and not needed any more: {unneeded}"
