"""The only door out of a domain: what a peer may see, at which level, how exactly, and for how long."""

from domain_twin.disclosure.abstraction import DEFAULT_CAP, Abstraction, abstract
from domain_twin.disclosure.policy import Action, Agreement, Grant, RateLimiter, Refusal, decide
from domain_twin.disclosure.precision import BANDWIDTH, EXACT, FIGURES, Precision
from domain_twin.disclosure.views import ViewBuilder

__all__ = [
    "BANDWIDTH",
    "DEFAULT_CAP",
    "EXACT",
    "FIGURES",
    "Abstraction",
    "Action",
    "Agreement",
    "Grant",
    "Precision",
    "RateLimiter",
    "Refusal",
    "ViewBuilder",
    "abstract",
    "decide",
]
