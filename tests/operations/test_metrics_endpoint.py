"""The endpoint's bounds: who may read, how many at once, how long, and that figures are declared."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

from domain_twin.config import load_agent
from domain_twin.errors import ConfigError
from domain_twin.operations import endpoint, instruments
from domain_twin.operations.endpoint import Face, serve_metrics
from domain_twin.operations.health import Check
from domain_twin.operations.instruments import Distribution, Instrument, Kind, Sheet
from domain_twin.operations.settings import MetricsConfig

LIVES = Instrument("fedtwin_test_lives_total", Kind.COUNTER, "Lives", ("cat",))
NOW = MetricsConfig(listen="127.0.0.1:0")


class Cat:
    """What is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.well = True

    def fill(self, sheet: Sheet) -> None:
        self.looks += 1
        sheet.put(LIVES.name, 9, "tom")

    def face(self) -> Face:
        return Face("cat", [LIVES], self.fill, lambda: [Check("mood", self.well, "purrs or not")])


@contextlib.asynccontextmanager
async def served(cat: Cat, state: Path | None = None) -> AsyncIterator[tuple[str, int]]:
    async with serve_metrics(NOW, cat.face(), state) as address:
        host, _, port = address.rpartition(":")
        yield host, int(port)


async def ask(place: tuple[str, int], text: str) -> str:
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(text.encode("latin-1"))
        async with asyncio.timeout(30):
            return (await reader.read()).decode()
    except ConnectionError:
        return ""
    finally:
        writer.close()


def request(path: str, method: str = "GET", host: str = "localhost") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "[2001:db8::1]:1"])
def test_an_address_that_others_reach_is_refused_without_a_reason(listen: str, tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'domain = "a"\noperator = "a.example"\nstate = "s"\n[metrics]\nlisten = "{listen}"\n')

    with pytest.raises(ConfigError, match=r"can be reached from other machines.*write the reason"):
        load_agent(file)

    file.write_text(file.read_text() + 'remote_because = "scraped over the management network"\n')
    assert load_agent(file).metrics.listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1", "9464", "localhost:x", "127.0.0.1:70000", "me.example:9464"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"is not host:port|is no IP address"):
        MetricsConfig(listen=listen)


async def test_without_an_address_nothing_listens() -> None:
    async with serve_metrics(MetricsConfig(), Cat().face(), None) as address:
        assert address == ""


async def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = MetricsConfig(listen=f"127.0.0.1:{other.getsockname()[1]}")

        with pytest.raises(ConfigError, match=r"cannot listen there \(Address already in use\)"):
            async with serve_metrics(config, Cat().face(), None):
                pass


async def test_the_address_is_noted_while_it_is_served(tmp_path: Path) -> None:
    async with served(Cat(), tmp_path) as (host, port):
        assert (tmp_path / "metrics.address").read_text() == f"{host}:{port}\n"
    assert not (tmp_path / "metrics.address").exists()


async def test_paths_and_methods() -> None:
    cat = Cat()
    async with served(cat) as place:
        metrics = await ask(place, request("/metrics?x=1"))
        head = await ask(place, request("/metrics", "HEAD"))
        health = await ask(place, request("/healthz"))
        ready = await ask(place, request("/readyz"))
        cat.well = False
        unready = await ask(place, request("/readyz"))
        unknown = await ask(place, request("/"))
        post = await ask(place, request("/metrics", "POST"))

    body = metrics.partition("\r\n\r\n")[2]
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert [(s.labels, s.value) for s in families["fedtwin_test_lives"].samples] == [({"cat": "tom"}, 9.0)]
    assert (head.partition("\r\n\r\n")[2], health[:15], ready[:15]) == (
        "",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK",
    )
    assert unready.startswith("HTTP/1.1 503")
    assert '"detail": "purrs or not"' in unready
    assert (unknown[:12], post[:12]) == ("HTTP/1.1 404", "HTTP/1.1 405")


async def test_a_web_page_cannot_read_by_a_name_of_its_own() -> None:
    async with served(Cat()) as place:
        answers = [
            await ask(place, request("/metrics", host=host)) for host in ("evil.example", "evil.example:80")
        ]
        good = [
            await ask(place, request("/metrics", host=h)) for h in ("127.0.0.1:1", "[::1]:9", "localhost:5")
        ]

    assert [answer[:12] for answer in answers] == ["HTTP/1.1 403"] * 2
    assert [answer[:12] for answer in good] == ["HTTP/1.1 200"] * 3


async def test_a_flood_of_scrapes_is_rendered_once() -> None:
    cat = Cat()
    async with served(cat) as place:
        answers = await asyncio.gather(
            *(ask(place, request("/metrics")) for _ in range(endpoint.CONNECTIONS))
        )

    assert sum(answer.startswith("HTTP/1.1 200") for answer in answers) == endpoint.CONNECTIONS
    assert cat.looks == 1


async def test_slow_scrapers_are_bounded_and_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "HEAD_WITHIN_S", 1.0)
    async with served(Cat()) as place:
        slow = [await asyncio.open_connection(*place) for _ in range(endpoint.CONNECTIONS)]
        for _, writer in slow:
            writer.write(b"GET /metrics HT")
        await asyncio.sleep(0.2)

        refused = await ask(place, request("/metrics"))
        async with asyncio.timeout(30):
            cut = [await reader.read() for reader, _ in slow]
        after = await ask(place, request("/metrics"))
        for _, writer in slow:
            writer.close()

    assert refused.startswith("HTTP/1.1 503") or not refused
    assert cut == [b""] * endpoint.CONNECTIONS
    assert after.startswith("HTTP/1.1 200")


async def test_a_reader_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "ANSWER_WITHIN_S", 1.0)
    cat = Cat()
    large = Face(
        "cat",
        [LIVES],
        lambda sheet: [sheet.put(LIVES.name, n, f"{n:0100d}") for n in range(9000)] and None,
        lambda: [],
    )
    async with serve_metrics(NOW, large, None) as address:
        host, _, port = address.rpartition(":")
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await asyncio.get_running_loop().sock_connect(reader, (host, int(port)))
            await asyncio.get_running_loop().sock_sendall(reader, request("/metrics").encode())
            await asyncio.sleep(2.5)

            heard = b""
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    while data := await asyncio.get_running_loop().sock_recv(reader, 65536):
                        heard += data
    assert cat.looks == 0
    assert f"{8999:0100d}".encode() not in heard


@pytest.mark.parametrize(
    "rubbish", ["\x00" * 100 + "\r\n\r\n", "GET " + "a" * 20_000, "GET\r\n\r\n", "x: y\r\n\r\n"]
)
async def test_rubbish_costs_its_sender_the_connection_only(rubbish: str) -> None:
    async with served(Cat()) as place:
        answer = await ask(place, rubbish)

        assert not answer or answer.startswith("HTTP/1.1 40")
        assert (await ask(place, request("/healthz"))).startswith("HTTP/1.1 200")


async def test_a_figure_that_fails_is_a_500_and_no_more() -> None:
    def fail(_: Sheet) -> None:
        raise RuntimeError("boom")

    async with serve_metrics(NOW, Face("cat", [LIVES], fail, lambda: []), None) as address:
        host, _, port = address.rpartition(":")
        broken = await ask((host, int(port)), request("/metrics"))
        health = await ask((host, int(port)), request("/healthz"))

    assert broken.startswith("HTTP/1.1 500")
    assert "boom" not in broken
    assert health.startswith("HTTP/1.1 200")


def test_series_are_bounded_and_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "MAX_SERIES", 3)
    omitted = Instrument(instruments.OMITTED, Kind.GAUGE, "Left out")
    sheet = Sheet([LIVES, omitted])

    for number in range(10):
        sheet.put(LIVES.name, 1, f"cat-{number}" + "x" * 500)

    families = {family.name: family for family in sheet.families()}
    samples = families["fedtwin_test_lives"].samples
    assert len(samples) == 3
    assert max(len(sample.labels["cat"]) for sample in samples) == instruments.MAX_LABEL
    assert [sample.value for sample in families[instruments.OMITTED].samples] == [7]


@pytest.mark.parametrize("name", ["fedtwin_x", "cat_total", "fedtwin_Cat_total", "fedtwin__total"])
def test_a_name_that_breaks_the_conventions_cannot_be_declared(name: str) -> None:
    with pytest.raises(ValueError, match="a name is fedtwin_"):
        Instrument(name, Kind.COUNTER, "")


def test_labels_must_be_those_declared() -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Sheet([LIVES]).put(LIVES.name, 1)


@given(st.lists(st.floats(0, 20), max_size=50))
def test_a_distribution_counts_what_prometheus_would(values: list[float]) -> None:
    seen = Distribution((0.5, 1.0, 10.0))
    for value in values:
        seen.observe(value)

    assert seen.count == len(values)
    assert seen.sum == pytest.approx(sum(values))
    assert seen.cumulative() == [
        *((str(bound), sum(value <= bound for value in values)) for bound in seen.bounds),
        ("+Inf", len(values)),
    ]
