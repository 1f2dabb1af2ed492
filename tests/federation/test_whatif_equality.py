"""Federated answers against one solver that sees everything, under the same hierarchical routing."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from domain_twin.model.scenario import DemandChange, ElementDown
from domain_twin.simulation.graph import Variant
from federation.whatif import predict
from federation.whatif_changes import Case

_FILE = Path(__file__).parents[2] / "benchmarks" / "_domains.py"
_SPEC = importlib.util.spec_from_file_location("benchmark_domains", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
domains = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = domains
_SPEC.loader.exec_module(domains)

TOLERANCE = 1e-4
WITHOUT_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]  # the plain solver takes seconds


def told_and_true(forecast, whole, solution, variant):
    """Both answers for delay, variance and loss of every pair; NaN where there is no way."""
    for name in ("delay_s", "variance_s2", "loss"):
        true = [np.nan if row is None else getattr(solution, name)[row] for row in whole.asked]
        yield name, getattr(forecast.way, name)[variant], np.array(true)


def check(forecast, whole, solution, variant=0):
    for name, told, true in told_and_true(forecast, whole, solution, variant):
        np.testing.assert_allclose(
            told, true, rtol=TOLERANCE, atol=1e-10 if name == "loss" else 0.0, err_msg=name
        )


def predicted(made, cases, **policy):
    """What the parts of a federation say together, and the parts."""
    parts = [domains.MemoryPart(domain, **policy) for domain in made.domains.values()]
    forecast = asyncio.run(predict(domains.question(made, cases), parts, missing={}, views={}))
    assert forecast.converged
    return forecast, parts


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(max_examples=5, deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(1, 10**6), count=st.integers(2, 4), load=st.sampled_from([0.4, 0.8, 1.3]))
def test_parts_together_say_what_one_solver_says_that_sees_everything(seed, count, load):
    made = domains.federation(count, 8, seed=seed, load=load)
    whole = domains.Whole(made)

    forecast, _ = predicted(made, [Case("base")])

    check(forecast, whole, whole.solve({}))


@pytest.mark.slow
@pytest.mark.timeout(400)
@settings(max_examples=2, deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(1, 10**6), data=st.data())
def test_changes_between_and_inside_the_domains_are_what_they_are_to_the_whole(seed, data):
    made = domains.federation(3, 8, seed=seed, load=0.9)
    down = data.draw(st.sampled_from(sorted(made.links)), "inter-domain link that fails")
    inside = data.draw(st.sampled_from(sorted(made.domains)), "domain with changes of its own")
    edge = data.draw(st.integers(0, 7), "link of its that fails")
    own = made.domains[inside].variants[2] = Variant(
        "own", down=frozenset({edge}), values={"capacity_bps": {9: 5e6}}
    )
    factor = data.draw(st.sampled_from([0.5, 1.5]), "factor of all demand")
    cases = [
        Case("base"),
        Case("link", (ElementDown(kind="element-down", element=down),)),
        Case("inside"),
        Case("demand", (DemandChange(kind="demand", factor=factor),)),
    ]
    whole = domains.Whole(made)

    forecast, _ = predicted(made, cases)

    check(forecast, whole, whole.solve({}), 0)
    check(forecast, whole, whole.solve({}, down=[down]), 1)
    check(forecast, whole, whole.solve({inside: own}), 2)
    check(forecast, whole, whole.solve({}, factor=factor), 3)


def test_no_message_of_a_question_names_what_is_inside_a_domain():
    made = domains.federation(3, 8, seed=4, load=0.9)
    cases = [Case("base"), Case("x", (ElementDown(kind="element-down", element=min(made.links)),))]

    _, parts = predicted(made, cases)

    messages = [message for part in parts for message in part.messages]
    assert len(messages) > 4 * len(parts)
    assert domains.leaks(messages, domains.inner_names(made)) == set()


def test_the_scan_of_messages_finds_a_name_that_leaked():
    made = domains.federation(2, 8, seed=4)
    domain = made.domains["dom0"]
    name = domain.graph.edges[3]
    domain.assumptions = (f"the rate of {name} was guessed",)

    _, parts = predicted(made, [Case("base")])

    assert domains.leaks(parts[0].messages, domains.inner_names(made)) == {name}
