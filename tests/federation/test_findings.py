from domain_twin.model import Finding, Severity
from federation.findings import FindingLedger


def finding(element: str, message: str = "m", severity: Severity = Severity.WARNING) -> Finding:
    return Finding("code", severity, "a", element, message)


def test_a_finding_is_raised_once_and_keeps_its_time():
    ledger = FindingLedger()

    first = ledger.report("graph", [finding("x")], now=10)
    again = ledger.report("graph", [finding("x")], now=20)

    assert [f.since for f in first.raised] == [10]
    assert not again
    assert [f.since for f in ledger.standing()] == [10]


def test_other_words_change_a_finding_and_do_not_raise_it_anew():
    ledger = FindingLedger()
    ledger.report("graph", [finding("x", "1 Mbit/s")], now=10)

    turn = ledger.report("graph", [finding("x", "2 Mbit/s")], now=20)

    assert (turn.raised, turn.cleared) == ((), ())
    assert [(f.message, f.since) for f in turn.changed] == [("2 Mbit/s", 10)]


def test_what_is_no_longer_found_is_cleared_and_may_come_back():
    ledger = FindingLedger()
    ledger.report("graph", [finding("x"), finding("y")], now=10)

    gone = ledger.report("graph", [finding("y")], now=20)
    back = ledger.report("graph", [finding("x"), finding("y")], now=30)

    assert [f.element for f in gone.cleared] == ["x"]
    assert [(f.element, f.since) for f in back.raised] == [("x", 30)]


def test_sources_do_not_clear_each_other():
    ledger = FindingLedger()
    ledger.report("graph", [finding("x")], now=10)
    ledger.report("agent a", [finding("y", severity=Severity.ERROR)], now=20)

    turn = ledger.report("graph", [], now=30)
    standing = ledger.standing()
    left = ledger.forget("agent a")

    assert [f.element for f in turn.cleared] == ["x"]
    assert [f.element for f in standing] == ["y"]
    assert [f.element for f in left.cleared] == ["y"]
    assert ledger.standing() == ()


def test_the_most_severe_comes_first_then_the_oldest():
    ledger = FindingLedger()
    ledger.report("one", [finding("new", severity=Severity.INFO)], now=5)
    ledger.report("two", [finding("b")], now=30)
    ledger.report("three", [finding("a")], now=40)
    ledger.report("four", [finding("c", severity=Severity.ERROR)], now=50)

    assert [f.element for f in ledger.standing()] == ["c", "b", "a", "new"]


def test_a_source_that_repeats_itself_raises_once():
    turn = FindingLedger().report("graph", [finding("x"), finding("x")], now=1)

    assert len(turn.raised) == 1
