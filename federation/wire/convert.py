"""Translate between the messages of `fedtwin.v1` and the model. Owns the wire's words and ranges; no I/O.

`encode_x` makes a message, `decode_x` reads one; a round trip loses nothing. What a message cannot mean in
the model is refused as a ContractError that names the message and the field: a number that is not one, a
probability outside 0..1, a missing part.

Words that a newer peer may send and this version does not know never end a stream:

| word | read as | why |
|---|---|---|
| origin | synthetic | never mistaken for a measurement |
| point kind | node | takes part in no path end and joins no other domain |
| outcome | no data | a refusal of an unknown sort is still a refusal; the word is kept in the reason |
| severity of an alarm | indeterminate | RFC 8632 has that word for it |
| operator state of an alarm | none | shown: better seen twice than never |
| severity | warning | shown, and not the loudest |
| device connection | stale | not trusted; the word is kept in the problem |
| event kind | change | shown with its text, which the word then leads |
| state of a job | failed | nothing that could be taken for an answer; the word is kept in the problem |
| level in a status | none | shown as not known |
| level of a view, mode of a path | refused | what was granted or asked decides what the numbers mean |
"""

from federation.wire.alarms import decode_alarm, encode_alarm
from federation.wire.answers import (
    decode_budget_share,
    decode_composed_path,
    decode_customer,
    decode_domain_outcome,
    decode_hop,
    decode_objective,
    decode_outcome,
    decode_path_answer,
    decode_path_mode,
    decode_requirement,
    decode_service,
    decode_service_status,
    decode_slice,
    encode_budget_share,
    encode_composed_path,
    encode_customer,
    encode_domain_outcome,
    encode_hop,
    encode_objective,
    encode_path_answer,
    encode_requirement,
    encode_service,
    encode_service_status,
    encode_slice,
)
from federation.wire.fields import parse
from federation.wire.jobs import (
    decode_job,
    decode_job_question,
    decode_requirements,
    encode_job,
    encode_job_question,
    encode_requirements,
)
from federation.wire.statuses import (
    decode_device_status,
    decode_domain_status,
    decode_element,
    decode_event,
    decode_finding,
    decode_kpi,
    decode_sample,
    encode_device_status,
    encode_domain_status,
    encode_element,
    encode_event,
    encode_finding,
    encode_kpi,
    encode_sample,
)
from federation.wire.views import (
    decode_path_kpis,
    decode_point,
    decode_segment,
    decode_version,
    decode_view,
    decode_view_delta,
    encode_path_kpis,
    encode_point,
    encode_segment,
    encode_version,
    encode_view,
    encode_view_delta,
)

__all__ = [
    "decode_alarm",
    "decode_budget_share",
    "decode_composed_path",
    "decode_customer",
    "decode_device_status",
    "decode_domain_outcome",
    "decode_domain_status",
    "decode_element",
    "decode_event",
    "decode_finding",
    "decode_hop",
    "decode_job",
    "decode_job_question",
    "decode_kpi",
    "decode_objective",
    "decode_outcome",
    "decode_path_answer",
    "decode_path_kpis",
    "decode_path_mode",
    "decode_point",
    "decode_requirement",
    "decode_requirements",
    "decode_sample",
    "decode_segment",
    "decode_service",
    "decode_service_status",
    "decode_slice",
    "decode_version",
    "decode_view",
    "decode_view_delta",
    "encode_alarm",
    "encode_budget_share",
    "encode_composed_path",
    "encode_customer",
    "encode_device_status",
    "encode_domain_outcome",
    "encode_domain_status",
    "encode_element",
    "encode_event",
    "encode_finding",
    "encode_hop",
    "encode_job",
    "encode_job_question",
    "encode_kpi",
    "encode_objective",
    "encode_path_answer",
    "encode_path_kpis",
    "encode_point",
    "encode_requirement",
    "encode_requirements",
    "encode_sample",
    "encode_segment",
    "encode_service",
    "encode_service_status",
    "encode_slice",
    "encode_version",
    "encode_view",
    "encode_view_delta",
    "parse",
]
