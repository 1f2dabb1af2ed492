"""Answers on the wire: paths, outcomes, services, budgets. Parts of `convert`, where the rules are."""

from __future__ import annotations

from typing import Any

from domain_twin.model import (
    BudgetShare,
    ComposedPath,
    Customer,
    DomainOutcome,
    Hop,
    Objective,
    Outcome,
    PathAnswer,
    PathMode,
    Requirement,
    Service,
    ServiceStatus,
    Slice,
)
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import named, number, optional, part, word
from federation.wire.views import decode_path_kpis, decode_version, encode_path_kpis, encode_version


def encode_requirement(requirement: Requirement) -> pb.Requirement:
    """What a path must meet, as a message."""
    return pb.Requirement(
        delay_ms=requirement.delay_ms,
        bandwidth_mbps=requirement.bandwidth_mbps,
        loss=requirement.loss,
    )


def decode_requirement(message: pb.Requirement) -> Requirement:
    """What a path must meet. Raises ContractError."""
    return Requirement(
        delay_ms=optional(message, "delay_ms"),
        bandwidth_mbps=optional(message, "bandwidth_mbps"),
        loss=optional(message, "loss"),
    )


def decode_path_mode(message: Any) -> PathMode:
    """The mode that a message with such a field asks for; left out it is CURRENT. Raises ContractError."""
    return word(message, "mode", PathMode) if message.mode else PathMode.CURRENT


def encode_hop(hop: Hop) -> pb.Hop:
    """One part of a composed path as a message."""
    return pb.Hop(
        domain=hop.domain,
        source=hop.source,
        target=hop.target,
        kpis=encode_path_kpis(hop.kpis),
        link_id=hop.link_id,
        stale=hop.stale,
    )


def decode_hop(message: pb.Hop) -> Hop:
    """One part of a composed path. Raises ContractError."""
    return Hop(
        domain=message.domain,
        source=message.source,
        target=message.target,
        kpis=decode_path_kpis(part(message, "kpis")),
        link_id=message.link_id,
        stale=message.stale,
    )


def encode_composed_path(path: ComposedPath) -> pb.ComposedPath:
    """A path across domains as a message."""
    return pb.ComposedPath(hops=[encode_hop(hop) for hop in path.hops], total=encode_path_kpis(path.total))


def decode_composed_path(message: pb.ComposedPath) -> ComposedPath:
    """A path across domains. Raises ContractError."""
    return ComposedPath(
        hops=tuple(decode_hop(hop) for hop in message.hops),
        total=decode_path_kpis(part(message, "total")),
    )


def encode_domain_outcome(outcome: DomainOutcome) -> pb.DomainOutcome:
    """One domain's part in an answer as a message."""
    return pb.DomainOutcome(
        domain=outcome.domain,
        outcome=outcome.outcome,
        version=None if outcome.version is None else encode_version(outcome.version),
        reason=outcome.reason,
    )


def decode_domain_outcome(message: pb.DomainOutcome) -> DomainOutcome:
    """One domain's part in an answer."""
    outcome, reason = decode_outcome(message.outcome, message.reason)
    return DomainOutcome(
        domain=message.domain,
        outcome=outcome,
        version=decode_version(message.version) if message.HasField("version") else None,
        reason=reason,
    )


def decode_outcome(word: str, reason: str) -> tuple[Outcome, str]:
    """An outcome's word and reason; an unknown word becomes NO_DATA and is kept in the reason."""
    try:
        return Outcome(word), reason
    except ValueError:
        return (
            Outcome.NO_DATA,
            f"{word or 'no outcome'}: {reason}" if reason else word or "no outcome was given",
        )


def encode_path_answer(answer: PathAnswer) -> pb.PathAnswer:
    """The answer to a path question as a message."""
    return pb.PathAnswer(
        source=answer.source,
        target=answer.target,
        mode=answer.mode,
        requirement=encode_requirement(answer.requirement),
        paths=[encode_composed_path(path) for path in answer.paths],
        domains=[encode_domain_outcome(outcome) for outcome in answer.domains],
        answered_at=answer.answered_at,
        inner_approximation=answer.inner_approximation,
    )


def decode_path_answer(message: pb.PathAnswer) -> PathAnswer:
    """The answer to a path question. Raises ContractError; an unknown mode is refused."""
    return PathAnswer(
        source=message.source,
        target=message.target,
        mode=word(message, "mode", PathMode),
        requirement=decode_requirement(message.requirement),
        paths=tuple(decode_composed_path(path) for path in message.paths),
        domains=tuple(decode_domain_outcome(outcome) for outcome in message.domains),
        answered_at=message.answered_at,
        inner_approximation=message.inner_approximation,
    )


def encode_objective(objective: Objective) -> pb.Objective:
    """What was promised, as a message."""
    return pb.Objective(
        delay_ms=objective.delay_ms,
        loss=objective.loss,
        availability=objective.availability,
        bandwidth_mbps=objective.bandwidth_mbps,
    )


def decode_objective(message: pb.Objective) -> Objective:
    """What was promised. Raises ContractError."""
    return Objective(
        delay_ms=optional(message, "delay_ms"),
        loss=optional(message, "loss"),
        availability=optional(message, "availability"),
        bandwidth_mbps=optional(message, "bandwidth_mbps"),
    )


def encode_service(service: Service) -> pb.Service:
    """A service record as a message."""
    return pb.Service(
        id=service.id,
        name=service.name,
        source=service.source,
        target=service.target,
        objective=encode_objective(service.objective),
        customer=service.customer,
        slice=service.slice,
    )


def decode_service(message: pb.Service) -> Service:
    """A service record. Raises ContractError."""
    return Service(
        id=named(message, "id"),
        name=message.name,
        source=message.source,
        target=message.target,
        objective=decode_objective(message.objective),
        customer=message.customer,
        slice=message.slice,
    )


def encode_slice(item: Slice) -> pb.Slice:
    """A slice record as a message."""
    return pb.Slice(
        id=item.id, name=item.name, snssai=item.snssai, customer=item.customer, elements=item.elements
    )


def decode_slice(message: pb.Slice) -> Slice:
    """A slice record. Raises ContractError."""
    return Slice(
        id=named(message, "id"),
        name=message.name,
        snssai=message.snssai,
        customer=message.customer,
        elements=tuple(message.elements),
    )


def encode_customer(customer: Customer) -> pb.Customer:
    """A customer record as a message."""
    return pb.Customer(id=customer.id, name=customer.name)


def decode_customer(message: pb.Customer) -> Customer:
    """A customer record. Raises ContractError."""
    return Customer(id=named(message, "id"), name=message.name)


def encode_budget_share(share: BudgetShare) -> pb.BudgetShare:
    """One domain's part of a budget as a message."""
    return pb.BudgetShare(
        domain=share.domain, share_ms=share.share_ms, used_ms=share.used_ms, outcome=share.outcome
    )


def decode_budget_share(message: pb.BudgetShare) -> BudgetShare:
    """One domain's part of a budget. Raises ContractError."""
    return BudgetShare(
        domain=message.domain,
        share_ms=number(message, "share_ms"),
        used_ms=number(message, "used_ms"),
        outcome=decode_outcome(message.outcome, "")[0],
    )


def encode_service_status(status: ServiceStatus) -> pb.ServiceStatus:
    """A service with what it gets, as a message."""
    return pb.ServiceStatus(
        service=encode_service(status.service),
        path=None if status.path is None else encode_composed_path(status.path),
        budget=[encode_budget_share(share) for share in status.budget],
        domains=[encode_domain_outcome(outcome) for outcome in status.domains],
        met=status.met,
        at=status.at,
        cause=status.cause,
    )


def decode_service_status(message: pb.ServiceStatus) -> ServiceStatus:
    """A service with what it gets. Raises ContractError."""
    return ServiceStatus(
        service=decode_service(part(message, "service")),
        path=decode_composed_path(message.path) if message.HasField("path") else None,
        budget=tuple(decode_budget_share(share) for share in message.budget),
        domains=tuple(decode_domain_outcome(outcome) for outcome in message.domains),
        met=message.met if message.HasField("met") else None,
        at=message.at,
        cause=message.cause,
    )
