"""Terms of the upper ontology as IRIs; made from ontology/ndt.ttl by ontology/build.py."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

ONTOLOGY_VERSION: Final = "0.3.0"

# Classes
AGREEMENT: Final = "https://fedtwin.example/ns/ndt#Agreement"
ALARM: Final = "https://fedtwin.example/ns/ndt#Alarm"
APPLICATION: Final = "https://fedtwin.example/ns/ndt#Application"
BORDER_POINT: Final = "https://fedtwin.example/ns/ndt#BorderPoint"
CELL: Final = "https://fedtwin.example/ns/ndt#Cell"
CHANGE_REQUEST: Final = "https://fedtwin.example/ns/ndt#ChangeRequest"
CRITICAL_LINK: Final = "https://fedtwin.example/ns/ndt#CriticalLink"
CUSTOMER: Final = "https://fedtwin.example/ns/ndt#Customer"
DATA_VIEW: Final = "https://fedtwin.example/ns/ndt#DataView"
DOMAIN: Final = "https://fedtwin.example/ns/ndt#Domain"
EDGE_SITE: Final = "https://fedtwin.example/ns/ndt#EdgeSite"
ELEMENT: Final = "https://fedtwin.example/ns/ndt#Element"
END_POINT: Final = "https://fedtwin.example/ns/ndt#EndPoint"
EXPECTATION: Final = "https://fedtwin.example/ns/ndt#Expectation"
FINDING: Final = "https://fedtwin.example/ns/ndt#Finding"
GNB_CU: Final = "https://fedtwin.example/ns/ndt#GnbCu"
GNB_DU: Final = "https://fedtwin.example/ns/ndt#GnbDu"
HOST: Final = "https://fedtwin.example/ns/ndt#Host"
INTENT: Final = "https://fedtwin.example/ns/ndt#Intent"
INTER_DOMAIN_LINK: Final = "https://fedtwin.example/ns/ndt#InterDomainLink"
KPI: Final = "https://fedtwin.example/ns/ndt#Kpi"
KPI_DEFINITION: Final = "https://fedtwin.example/ns/ndt#KpiDefinition"
LINK: Final = "https://fedtwin.example/ns/ndt#Link"
MANAGED_FUNCTION: Final = "https://fedtwin.example/ns/ndt#ManagedFunction"
MODEL: Final = "https://fedtwin.example/ns/ndt#Model"
NDT_JOB: Final = "https://fedtwin.example/ns/ndt#NdtJob"
NDT_REPORT: Final = "https://fedtwin.example/ns/ndt#NdtReport"
NETWORK: Final = "https://fedtwin.example/ns/ndt#Network"
NETWORK_FUNCTION: Final = "https://fedtwin.example/ns/ndt#NetworkFunction"
NODE: Final = "https://fedtwin.example/ns/ndt#Node"
OBJECTIVE: Final = "https://fedtwin.example/ns/ndt#Objective"
OBSERVATION: Final = "https://fedtwin.example/ns/ndt#Observation"
ORGANISATION: Final = "https://fedtwin.example/ns/ndt#Organisation"
PATH: Final = "https://fedtwin.example/ns/ndt#Path"
POLICY: Final = "https://fedtwin.example/ns/ndt#Policy"
RISK_GROUP: Final = "https://fedtwin.example/ns/ndt#RiskGroup"
SEGMENT: Final = "https://fedtwin.example/ns/ndt#Segment"
SERVICE: Final = "https://fedtwin.example/ns/ndt#Service"
SINGLE_POINT_OF_FAILURE: Final = "https://fedtwin.example/ns/ndt#SinglePointOfFailure"
SLICE: Final = "https://fedtwin.example/ns/ndt#Slice"
SLICE_SUBNET: Final = "https://fedtwin.example/ns/ndt#SliceSubnet"
TERMINATION_POINT: Final = "https://fedtwin.example/ns/ndt#TerminationPoint"
TWIN_AGENT: Final = "https://fedtwin.example/ns/ndt#TwinAgent"

# Relations
AT_SITE: Final = "https://fedtwin.example/ns/ndt#atSite"
CARRIED_BY: Final = "https://fedtwin.example/ns/ndt#carriedBy"
CONCERNS: Final = "https://fedtwin.example/ns/ndt#concerns"
DEPENDS_ON: Final = "https://fedtwin.example/ns/ndt#dependsOn"
ENDS_AT: Final = "https://fedtwin.example/ns/ndt#endsAt"
FOLLOWS: Final = "https://fedtwin.example/ns/ndt#follows"
FOR_CUSTOMER: Final = "https://fedtwin.example/ns/ndt#forCustomer"
FOUND_BY: Final = "https://fedtwin.example/ns/ndt#foundBy"
GIVEN_BY: Final = "https://fedtwin.example/ns/ndt#givenBy"
GIVEN_TO: Final = "https://fedtwin.example/ns/ndt#givenTo"
GRANTS: Final = "https://fedtwin.example/ns/ndt#grants"
HAS_DESTINATION: Final = "https://fedtwin.example/ns/ndt#hasDestination"
HAS_EXPECTATION: Final = "https://fedtwin.example/ns/ndt#hasExpectation"
HAS_KPI: Final = "https://fedtwin.example/ns/ndt#hasKpi"
HAS_POLICY: Final = "https://fedtwin.example/ns/ndt#hasPolicy"
HAS_REPORT: Final = "https://fedtwin.example/ns/ndt#hasReport"
HAS_SOURCE: Final = "https://fedtwin.example/ns/ndt#hasSource"
HAS_SUBNET: Final = "https://fedtwin.example/ns/ndt#hasSubnet"
HAS_TERMINATION_POINT: Final = "https://fedtwin.example/ns/ndt#hasTerminationPoint"
HOSTED_ON: Final = "https://fedtwin.example/ns/ndt#hostedOn"
IN_DOMAIN: Final = "https://fedtwin.example/ns/ndt#inDomain"
IN_RISK_GROUP: Final = "https://fedtwin.example/ns/ndt#inRiskGroup"
IN_SCOPE: Final = "https://fedtwin.example/ns/ndt#inScope"
MIRRORS: Final = "https://fedtwin.example/ns/ndt#mirrors"
OBSERVATION_OF: Final = "https://fedtwin.example/ns/ndt#observationOf"
ON_NODE: Final = "https://fedtwin.example/ns/ndt#onNode"
OPERATED_BY: Final = "https://fedtwin.example/ns/ndt#operatedBy"
PART_OF: Final = "https://fedtwin.example/ns/ndt#partOf"
PEER_DOMAIN: Final = "https://fedtwin.example/ns/ndt#peerDomain"
PEERS_WITH: Final = "https://fedtwin.example/ns/ndt#peersWith"
PROMISES: Final = "https://fedtwin.example/ns/ndt#promises"
REQUESTED_BY: Final = "https://fedtwin.example/ns/ndt#requestedBy"
REVERSE_OF: Final = "https://fedtwin.example/ns/ndt#reverseOf"
SERIES: Final = "https://fedtwin.example/ns/ndt#series"
SERVED_BY: Final = "https://fedtwin.example/ns/ndt#servedBy"
SUPPORTED_BY: Final = "https://fedtwin.example/ns/ndt#supportedBy"
USES_LINK: Final = "https://fedtwin.example/ns/ndt#usesLink"
USES_MODEL: Final = "https://fedtwin.example/ns/ndt#usesModel"
USES_SEGMENT: Final = "https://fedtwin.example/ns/ndt#usesSegment"

# Attributes
ACTION: Final = "https://fedtwin.example/ns/ndt#action"
ADMINISTRATIVE_STATE: Final = "https://fedtwin.example/ns/ndt#administrativeState"
ALIAS: Final = "https://fedtwin.example/ns/ndt#alias"
AVAILABILITY: Final = "https://fedtwin.example/ns/ndt#availability"
BANDWIDTH_MBPS: Final = "https://fedtwin.example/ns/ndt#bandwidthMbps"
CAPABILITY: Final = "https://fedtwin.example/ns/ndt#capability"
CAPACITY_MBPS: Final = "https://fedtwin.example/ns/ndt#capacityMbps"
CLEARED: Final = "https://fedtwin.example/ns/ndt#cleared"
CODE: Final = "https://fedtwin.example/ns/ndt#code"
COMPARATOR: Final = "https://fedtwin.example/ns/ndt#comparator"
DELAY_MS: Final = "https://fedtwin.example/ns/ndt#delayMs"
DELAY_VARIANCE_MS2: Final = "https://fedtwin.example/ns/ndt#delayVarianceMs2"
DEVICE: Final = "https://fedtwin.example/ns/ndt#device"
EXPIRES_AT: Final = "https://fedtwin.example/ns/ndt#expiresAt"
IDENTIFIER: Final = "https://fedtwin.example/ns/ndt#identifier"
LEVEL: Final = "https://fedtwin.example/ns/ndt#level"
LINK_ID: Final = "https://fedtwin.example/ns/ndt#linkId"
LOSS_RATIO: Final = "https://fedtwin.example/ns/ndt#lossRatio"
MESSAGE: Final = "https://fedtwin.example/ns/ndt#message"
METRIC: Final = "https://fedtwin.example/ns/ndt#metric"
NAME: Final = "https://fedtwin.example/ns/ndt#name"
OBSERVED_AT: Final = "https://fedtwin.example/ns/ndt#observedAt"
OPERATIONAL_STATE: Final = "https://fedtwin.example/ns/ndt#operationalState"
ORIGIN: Final = "https://fedtwin.example/ns/ndt#origin"
REMEDY: Final = "https://fedtwin.example/ns/ndt#remedy"
ROLE: Final = "https://fedtwin.example/ns/ndt#role"
SEVERITY: Final = "https://fedtwin.example/ns/ndt#severity"
SINCE: Final = "https://fedtwin.example/ns/ndt#since"
SNSSAI: Final = "https://fedtwin.example/ns/ndt#snssai"
SOFTWARE_VERSION: Final = "https://fedtwin.example/ns/ndt#softwareVersion"
STALE: Final = "https://fedtwin.example/ns/ndt#stale"
STATE: Final = "https://fedtwin.example/ns/ndt#state"
STD_ERROR: Final = "https://fedtwin.example/ns/ndt#stdError"
UNIT: Final = "https://fedtwin.example/ns/ndt#unit"
UP: Final = "https://fedtwin.example/ns/ndt#up"
VALUE: Final = "https://fedtwin.example/ns/ndt#value"
VENDOR: Final = "https://fedtwin.example/ns/ndt#vendor"
VERDICT: Final = "https://fedtwin.example/ns/ndt#verdict"
VERSION: Final = "https://fedtwin.example/ns/ndt#version"

ABOVE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        APPLICATION: frozenset({ELEMENT}),
        BORDER_POINT: frozenset({ELEMENT, TERMINATION_POINT}),
        CELL: frozenset({ELEMENT, MANAGED_FUNCTION}),
        CRITICAL_LINK: frozenset({ELEMENT}),
        EDGE_SITE: frozenset({ELEMENT}),
        END_POINT: frozenset({ELEMENT}),
        GNB_CU: frozenset({ELEMENT, MANAGED_FUNCTION}),
        GNB_DU: frozenset({ELEMENT, MANAGED_FUNCTION}),
        HOST: frozenset({ELEMENT}),
        INTER_DOMAIN_LINK: frozenset({ELEMENT}),
        LINK: frozenset({ELEMENT}),
        MANAGED_FUNCTION: frozenset({ELEMENT}),
        NETWORK: frozenset({ELEMENT}),
        NETWORK_FUNCTION: frozenset({ELEMENT, MANAGED_FUNCTION}),
        NODE: frozenset({ELEMENT}),
        TERMINATION_POINT: frozenset({ELEMENT}),
        AT_SITE: frozenset({DEPENDS_ON}),
        CARRIED_BY: frozenset({DEPENDS_ON}),
        ENDS_AT: frozenset({DEPENDS_ON}),
        FOLLOWS: frozenset({DEPENDS_ON}),
        HAS_DESTINATION: frozenset({DEPENDS_ON}),
        HAS_SOURCE: frozenset({DEPENDS_ON}),
        HAS_SUBNET: frozenset({DEPENDS_ON}),
        HOSTED_ON: frozenset({DEPENDS_ON}),
        IN_RISK_GROUP: frozenset({DEPENDS_ON}),
        ON_NODE: frozenset({DEPENDS_ON}),
        PART_OF: frozenset({DEPENDS_ON}),
        SERVED_BY: frozenset({DEPENDS_ON}),
        SUPPORTED_BY: frozenset({DEPENDS_ON}),
        USES_LINK: frozenset({DEPENDS_ON}),
        USES_SEGMENT: frozenset({DEPENDS_ON}),
    }
)
"""Every class or property that a term is below of, by the term."""

DEPENDENCES: Final = (
    AT_SITE,
    CARRIED_BY,
    ENDS_AT,
    FOLLOWS,
    HAS_DESTINATION,
    HAS_SOURCE,
    HAS_SUBNET,
    HOSTED_ON,
    IN_RISK_GROUP,
    ON_NODE,
    PART_OF,
    SERVED_BY,
    SUPPORTED_BY,
    USES_LINK,
    USES_SEGMENT,
)
"""The relations by which a failure travels: all that are below dependsOn."""
