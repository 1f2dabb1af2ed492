"""Jobs on the wire. Part of `convert`, where the rules are; a scenario travels as its own JSON."""

from __future__ import annotations

from domain_twin.errors import ConfigError, ContractError
from domain_twin.model.job import Capability, Job, JobState, Requirements
from domain_twin.model.job_json import canonical
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.questions.scenario_file import parse_scenario
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import at_least_zero, named, optional, ratio, where, word
from federation.wire.questions import JobQuestion
from federation.wire.views import decode_version, encode_version

MAX_LABELS = 32


def encode_job(job: Job) -> pb.Job:
    """A job as a message."""
    return pb.Job(
        id=job.id,
        capability=job.capability,
        scope=list(job.scope),
        scenario=canonical(job.scenario),
        requirements=encode_requirements(job.requirements),
        state=job.state,
        created_at=job.created_at,
        ended_at=job.ended_at,
        progress=job.progress,
        step=job.step,
        problem=job.problem,
        owner=job.owner,
        parent=job.parent,
        labels=dict(job.labels),
    )


def decode_job(message: pb.Job) -> Job:
    """A job; one in a state that is not known here counts as failed. Raises ContractError."""
    problem = message.problem
    try:
        state = JobState(message.state)
    except ValueError:
        state = JobState.FAILED
        problem = f"{message.state}: {problem}" if problem else f"it is {message.state}, unknown here"
    return Job(
        id=named(message, "id"),
        capability=word(message, "capability", Capability),
        scope=tuple(message.scope),
        scenario=_scenario(message),
        requirements=decode_requirements(message.requirements),
        state=state,
        created_at=message.created_at,
        ended_at=message.ended_at,
        progress=ratio(message, "progress"),
        step=message.step,
        problem=problem,
        owner=message.owner,
        parent=message.parent,
        labels=dict(message.labels),
    )


def encode_requirements(requirements: Requirements) -> pb.JobRequirements:
    """What the asker needs, as a message."""
    return pb.JobRequirements(
        deadline_s=requirements.deadline_s,
        at_versions=[
            pb.VersionOf(domain=domain, version=encode_version(version))
            for domain, version in sorted(requirements.at_versions.items())
        ],
        delay_ms=requirements.delay_ms,
        loss=requirements.loss,
    )


def decode_requirements(message: pb.JobRequirements) -> Requirements:
    """What the asker needs; without a deadline, the usual one. Raises ContractError."""
    return Requirements(
        deadline_s=at_least_zero(message, "deadline_s") or Requirements().deadline_s,
        at_versions={item.domain: decode_version(item.version) for item in message.at_versions},
        delay_ms=optional(message, "delay_ms"),
        loss=ratio(message, "loss") if message.HasField("loss") else None,
    )


def encode_job_question(question: JobQuestion) -> pb.StartJobRequest:
    """A question as a message."""
    return pb.StartJobRequest(
        capability=question.capability,
        scope=list(question.scope),
        scenario=canonical(question.scenario),
        requirements=encode_requirements(question.requirements),
        labels=dict(question.labels),
    )


def decode_job_question(message: pb.StartJobRequest) -> JobQuestion:
    """A question. Raises ContractError, ConfigError where the scenario is none."""
    if len(message.labels) > MAX_LABELS:
        raise ContractError(f"{where(message, 'labels')}: {len(message.labels)}, {MAX_LABELS} at most")
    return JobQuestion(
        capability=word(message, "capability", Capability),
        scenario=parse_scenario(message.scenario, "the scenario"),
        scope=tuple(message.scope),
        requirements=decode_requirements(message.requirements),
        labels=dict(message.labels),
    )


def _scenario(message: pb.Job) -> Scenario:
    try:
        return parse_scenario(message.scenario, "the scenario")
    except ConfigError as error:
        raise ContractError(f"{where(message, 'scenario')}: {error}") from error
