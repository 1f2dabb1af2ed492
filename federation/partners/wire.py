"""Records and news as `fedtwin.v1` messages, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domain_twin.errors import ContractError
from federation.partners.draft import decode, encode
from federation.partners.record import Kind, News, Record
from federation.v1 import fedtwin_pb2 as pb

__all__ = ["decode_news", "decode_record", "encode_news", "encode_record"]

MESSAGE_BYTES = 1 << 20


def encode_record(record: Record) -> Any:
    """A record without a body was removed."""
    return pb.Record(
        tenant=record.tenant,
        kind=record.kind,
        id=record.id,
        version=record.version,
        sequence=record.sequence,
        body=encode(record.kind, record.body).encode() if record.body else b"",
        changed_at=record.changed_at,
    )


def decode_record(message: Any) -> Record:
    """Raises ContractError for a kind that is not known, and for a body that is no JSON object."""
    try:
        kind = Kind(message.kind)
        body = decode(message.body.decode()) if message.body else {}
    except ValueError as error:
        raise ContractError(f"Record {message.kind!r} {message.id!r}: {error}") from None
    return Record(
        message.tenant, kind, message.id, message.version, message.sequence, body, message.changed_at
    )


def encode_news(news: News) -> Iterator[Any]:
    """News in messages of a bounded size; only the last one says how far this goes."""
    message = pb.FollowRecordsResponse(epoch=news.epoch, begins_anew=news.begins_anew, at=news.at)
    message.tenants.extend(sorted(news.tenants or ()))
    size = 0
    for record in news.records:
        encoded = encode_record(record)
        size += encoded.ByteSize()
        if message.records and size > MESSAGE_BYTES:
            yield message
            message = pb.FollowRecordsResponse(epoch=news.epoch, at=news.at)
            size = encoded.ByteSize()
        message.records.append(encoded)
    message.sequence = news.sequence
    message.complete = news.complete
    yield message


def decode_news(message: Any) -> News:
    """Raises ContractError. Records of kinds that a newer broker knows are left out."""
    known = {kind.value for kind in Kind}
    return News(
        tuple(decode_record(record) for record in message.records if record.kind in known),
        epoch=message.epoch,
        sequence=message.sequence,
        complete=message.complete,
        begins_anew=message.begins_anew,
        at=message.at,
        tenants=frozenset(message.tenants) or None,
    )
