"""The shapes of the six APIs: attribute names and types as TM Forum's documents (Apache-2.0) have them.

TMF633 4.0, TMF638 4.0, TMF639 4.0, TMF641 4.1, TMF642 4.0, TMF653 4.2. One shape serves all APIs that use its
name: where their documents differ it holds the attributes of all of them.
"""

from __future__ import annotations

from typing import Final

from twin_api.tmf.shapes import Shape, read_shape

__all__ = ["SHAPES"]

_ENUMERATIONS: Final = {
    "OrderState": (
        "acknowledged",
        "rejected",
        "pending",
        "held",
        "inProgress",
        "cancelled",
        "completed",
        "failed",
        "partial",
        "assessingCancellation",
        "pendingCancellation",
    ),
    "OrderAction": ("add", "modify", "delete", "noChange"),
    "TaskState": ("accepted", "terminatedWithError", "inProgress", "done"),
    "ServiceState": ("feasibilityChecked", "designed", "reserved", "inactive", "active", "terminated"),
    "OperatingStatus": (  # of TMF638 5.0: how well a twin does
        *("pending", "configured", "starting", "running", "degraded", "failed", "limited", "stopping"),
        *("stopped", "unknown"),
    ),
    "TestState": ("acknowledged", "rejected", "pending", "inProgress", "cancelled", "completed", "failed"),
    "JobState": ("Not Started", "Running", "Succeeded", "Failed"),
    "UsageState": ("idle", "active", "busy"),
    "AdministrativeState": ("locked", "unlocked", "shutdown"),
    "OperationalState": ("enable", "disable"),
    "ResourceStatus": ("standby", "alarm", "available", "reserved", "unknown", "suspended"),
    "AlarmState": ("raised", "updated", "cleared"),
    "AckState": ("acknowledged", "unacknowledged"),
    "SubscriptionState": ("active", "retrying", "impaired", "suspended"),
}

_REF: Final = "id! href name"
_ENTITY: Final = "id href=url"
_PARTY_FILLED: Final = {"@type": "RelatedParty", "@referredType": "Organization"}

_WORDS: Final = {
    # parts of several APIs
    "TimePeriod": "startDateTime=date endDateTime=date",
    "Quantity": "amount=number units",
    "Duration": "amount=int units",
    "RelatedParty": "id! href name role",
    "Note": "id href author date=date text!",
    "Characteristic": "id name! value!=any valueType characteristicRelationship=CharacteristicRelationship[]",
    "CharacteristicRelationship": "id href relationshipType",
    "ConstraintRef": "id! href name version",
    "RelatedPlaceRefOrValue": "id href name role!",
    "RelatedEntityRefOrValue": "id href name role!",
    "Feature": (
        "id name! isBundle=bool isEnabled=bool constraint=ConstraintRef[]"
        " featureCharacteristic!=Characteristic[] featureRelationship=FeatureRelationship[]"
    ),
    "FeatureRelationship": "id name! relationshipType! validFor=TimePeriod",
    "AttachmentRefOrValue": (
        "id href name description attachmentType content mimeType url=url size=Quantity validFor=TimePeriod"
    ),
    "TargetEntitySchema": "@schemaLocation! @type!",
    "EntitySpecificationRelationship": (
        "id href name role relationshipType! associationSpec=Ref validFor=TimePeriod"
    ),
    "Ref": _REF,
    "VersionedRef": "id! href name version",
    "CharacteristicSpecification": (
        "id name description configurable=bool extensible=bool isUnique=bool maxCardinality=int"
        " minCardinality=int regex valueType validFor=TimePeriod"
        " charSpecRelationship=CharacteristicSpecificationRelationship[]"
        " characteristicValueSpecification=CharacteristicValueSpecification[]"
    ),
    "CharacteristicSpecificationRelationship": (
        "characteristicSpecificationId name parentSpecificationHref parentSpecificationId relationshipType"
        " validFor=TimePeriod"
    ),
    "CharacteristicValueSpecification": (
        "isDefault=bool rangeInterval regex unitOfMeasure validFor=TimePeriod value=any valueFrom=int"
        " valueTo=int valueType"
    ),
    # TMF633
    "ServiceCatalog": (
        f"{_ENTITY} name description version lifecycleStatus lastUpdate=date validFor=TimePeriod"
        " category=VersionedRef[] relatedParty=RelatedParty[]"
    ),
    "ServiceCategory": (
        f"{_ENTITY} name description version lifecycleStatus lastUpdate=date validFor=TimePeriod isRoot=bool"
        " parentId category=VersionedRef[] serviceCandidate=VersionedRef[]"
    ),
    "ServiceCandidate": (
        f"{_ENTITY} name description version lifecycleStatus lastUpdate=date validFor=TimePeriod"
        " category=VersionedRef[] serviceSpecification=VersionedRef"
    ),
    "ServiceSpecification": (
        f"{_ENTITY} name description version lifecycleStatus lastUpdate=date validFor=TimePeriod"
        " isBundle=bool"
        " attachment=AttachmentRefOrValue[] constraint=ConstraintRef[]"
        " entitySpecRelationship=EntitySpecificationRelationship[]"
        " featureSpecification=FeatureSpecification[]"
        " relatedParty=RelatedParty[] resourceSpecification=VersionedRef[] serviceLevelSpecification=Ref[]"
        " serviceSpecRelationship=SpecRelationship[] specCharacteristic=CharacteristicSpecification[]"
        " targetEntitySchema=TargetEntitySchema"
    ),
    "SpecRelationship": "id href name role relationshipType! validFor=TimePeriod",
    "FeatureSpecification": (
        "id name version isBundle=bool isEnabled=bool validFor=TimePeriod constraint=ConstraintRef[]"
        " featureSpecCharacteristic=FeatureSpecificationCharacteristic[]"
        " featureSpecRelationship=FeatureSpecificationRelationship[]"
    ),
    "FeatureSpecificationCharacteristic": (
        "id name! description configurable=bool extensible=bool isUnique=bool maxCardinality=int"
        " minCardinality=int regex valueType validFor=TimePeriod"
        " featureSpecCharRelationship=FeatureSpecificationCharacteristicRelationship[]"
        " featureSpecCharacteristicValue=CharacteristicValueSpecification[]"
    ),
    "FeatureSpecificationCharacteristicRelationship": (
        "characteristicId featureId name relationshipType resourceSpecificationHref resourceSpecificationId"
        " validFor=TimePeriod"
    ),
    "FeatureSpecificationRelationship": (
        "featureId name! parentSpecificationHref parentSpecificationId relationshipType! validFor=TimePeriod"
    ),
    "ImportJob": (
        f"{_ENTITY} completionDate=date contentType creationDate=date errorLog path url=url status=JobState"
    ),
    "ExportJob": (
        f"{_ENTITY} completionDate=date contentType creationDate=date errorLog path query url=url"
        " status=JobState"
    ),
    # TMF641
    "ServiceOrder": (
        f"{_ENTITY} cancellationDate=date cancellationReason category completionDate=date description"
        " expectedCompletionDate=date externalId notificationContact orderDate=date priority"
        " requestedCompletionDate=date requestedStartDate=date startDate=date"
        " errorMessage=ServiceOrderErrorMessage[] externalReference=ExternalReference[]"
        " jeopardyAlert=ServiceOrderJeopardyAlert[] milestone=ServiceOrderMilestone[] note=Note[]"
        " orderRelationship=OrderRelationship[] relatedParty=RelatedParty[]"
        " serviceOrderItem=ServiceOrderItem[]"
        " state=OrderState"
    ),
    "CancelServiceOrder": (
        f"{_ENTITY} cancellationReason completionMessage effectiveCancellationDate=date"
        " requestedCancellationDate=date errorMessage=ErrorMessage serviceOrder=Ref state=TaskState"
    ),
    "ServiceOrderItem": (
        "id! quantity=int action!=OrderAction appointment=AppointmentRef"
        " errorMessage=ServiceOrderErrorMessage[] service!=ServiceRefOrValue"
        " serviceOrderItem=ServiceOrderItem[]"
        " serviceOrderItemRelationship=ServiceOrderItemRelationship[] state=OrderState"
    ),
    "ServiceOrderItemRelationship": "orderItem=ServiceOrderItemRef relationshipType",
    "ServiceOrderItemRef": "id itemId serviceOrderHref serviceOrderId",
    "AppointmentRef": "id! href description",
    "ErrorMessage": "code message reason referenceError=url status",
    "ServiceOrderErrorMessage": (
        "code message reason referenceError=url status timestamp=date serviceOrderItem=ServiceOrderItemRef[]"
    ),
    "ServiceOrderJeopardyAlert": (
        "id alertDate=date exception jeopardyType message name serviceOrderItem=ServiceOrderItemRef[]"
    ),
    "ServiceOrderMilestone": (
        "id description message milestoneDate=date name status serviceOrderItem=ServiceOrderItemRef[]"
    ),
    "ExternalReference": "id href externalReferenceType name!",
    "OrderRelationship": "id! href relationshipType!",
    # TMF638
    "Service": (
        f"{_ENTITY} category description endDate=date hasStarted=bool isBundle=bool isServiceEnabled=bool"
        " isStateful=bool name operatingStatus=OperatingStatus serviceDate serviceType startDate=date"
        " startMode feature=Feature[] note=Note[]"
        " place=RelatedPlaceRefOrValue[] relatedEntity=RelatedEntityRefOrValue[] relatedParty=RelatedParty[]"
        " serviceCharacteristic=Characteristic[] serviceOrderItem=RelatedServiceOrderItem[]"
        " serviceRelationship=ServiceRelationship[] serviceSpecification=VersionedRef state=ServiceState"
        " supportingResource=Ref[] supportingService=ServiceRefOrValue[]"
    ),
    "ServiceRefOrValue": (
        "id href category description endDate=date hasStarted=bool isBundle=bool isServiceEnabled=bool"
        " isStateful=bool name operatingStatus=OperatingStatus serviceDate serviceType startDate=date"
        " startMode feature=Feature[] note=Note[]"
        " place=RelatedPlaceRefOrValue[] relatedEntity=RelatedEntityRefOrValue[] relatedParty=RelatedParty[]"
        " serviceCharacteristic=Characteristic[] serviceOrderItem=RelatedServiceOrderItem[]"
        " serviceRelationship=ServiceRelationship[] serviceSpecification=VersionedRef state=ServiceState"
        " supportingResource=Ref[] supportingService=ServiceRefOrValue[]"
    ),
    "ServiceRelationship": (
        "id href relationshipType! service=ServiceRefOrValue"
        " serviceRelationshipCharacteristic=Characteristic[]"
    ),
    "RelatedServiceOrderItem": (
        "id href itemAction=OrderAction itemId! role serviceOrderHref serviceOrderId!"
    ),
    # TMF639
    "Resource": (
        f"{_ENTITY} category description endOperatingDate=date name resourceVersion startOperatingDate=date"
        " activationFeature=Feature[] administrativeState=AdministrativeState"
        " attachment=AttachmentRefOrValue[] note=Note[] operationalState=OperationalState"
        " place=RelatedPlaceRefOrValue relatedParty=RelatedParty[] resourceCharacteristic=Characteristic[]"
        " resourceRelationship=ResourceRelationship[] resourceSpecification=VersionedRef"
        " resourceStatus=ResourceStatus usageState=UsageState value manufactureDate=date powerState"
        " serialNumber"
        " versionNumber"
    ),
    "ResourceRelationship": "id href relationshipType! resource!=Resource",
    # TMF653
    "ServiceTest": (
        f"{_ENTITY} description endDateTime=date mode name startDateTime=date state=TestState"
        " characteristic=Characteristic[] relatedParty=RelatedParty[] relatedService=Ref"
        " testMeasure=TestMeasure[] testSpecification=VersionedRef validFor=TimePeriod"
    ),
    "TestMeasure": (
        "accuracy=number captureDateTime=date captureMethod metricDescription metricHref=url metricName"
        " unitOfMeasure ruleViolation=RuleViolation[] value=Characteristic"
    ),
    "RuleViolation": (
        "conformanceComparatorExact=bool conformanceComparatorLower conformanceComparatorUpper"
        " conformanceTargetExact conformanceTargetLower conformanceTargetUpper description name"
        " numberOfAllowedCrossing=int thresholdRuleSeverity tolerancePeriod=Duration"
        " appliedConsequence=AppliedConsequence[]"
    ),
    "AppliedConsequence": "appliedAction description name repeatAction=bool",
    "ServiceTestSpecification": (
        f"{_ENTITY} name description version lifecycleStatus lastUpdate=date validFor=TimePeriod"
        " isBundle=bool"
        " attachment=AttachmentRefOrValue[] constraint=ConstraintRef[]"
        " entitySpecRelationship=EntitySpecificationRelationship[] relatedParty=RelatedParty[]"
        " relatedServiceSpecification=VersionedRef[] serviceTestSpecRelationship=SpecRelationship[]"
        " specCharacteristic=CharacteristicSpecification[] targetEntitySchema=TargetEntitySchema"
        " testMeasureDefinition=TestMeasureDefinition[]"
    ),
    "TestMeasureDefinition": (
        "name captureFrequency captureMethod capturePeriod=Duration metricDescription metricHref=url"
        " metricName"
        " unitOfMeasure valueType validFor=TimePeriod thresholdRule=ThresholdRule[]"
    ),
    "ThresholdRule": (
        "conformanceComparatorExact=bool conformanceComparatorLower conformanceComparatorUpper"
        " conformanceTargetExact conformanceTargetLower conformanceTargetUpper description name"
        " numberOfAllowedCrossing=int thresholdRuleSeverity tolerancePeriod=Duration"
        " consequence=MeasureConsequence[]"
    ),
    "MeasureConsequence": "description name prescribeAction repeatAction=bool validFor=TimePeriod",
    # TMF642
    "Alarm": (
        f"{_ENTITY} ackState=AckState ackSystemId ackUserId alarmChangedTime=date alarmClearedTime=date"
        " alarmDetails alarmEscalation=bool alarmRaisedTime=date alarmReportingTime=date alarmType"
        " alarmedObjectType clearSystemId clearUserId externalAlarmId isRootCause=bool perceivedSeverity"
        " plannedOutageIndicator probableCause proposedRepairedActions raisedBy reportingSystemId"
        " serviceAffecting=bool"
        " sourceSystemId specificProblem state=AlarmState affectedService=Entity[] alarmedObject=Entity"
        " comment=Comment[] correlatedAlarm=Ref[] crossedThresholdInformation=CrossedThreshold"
        " parentAlarm=Ref[]"
        " place=RelatedPlaceRefOrValue[]"
    ),
    "Entity": "id href",
    "Comment": "comment systemId time=date userId",
    "CrossedThreshold": (
        "direction granularity indicatorName indicatorUnit observedValue threshold=Ref"
        " thresholdCrossingDescription"
    ),
    "AckAlarms": (
        f"{_ENTITY} ackSystemId ackTime=date ackUserId state ackedAlarm=Alarm[] alarmPattern=Alarm[]"
    ),
    "UnAckAlarms": (
        f"{_ENTITY} ackSystemId ackTime=date ackUserId state alarmPattern=Alarm[] unAckedAlarm=Alarm[]"
    ),
    "ClearAlarms": (
        f"{_ENTITY} alarmClearedTime=date clearSystemId clearUserId state alarmPattern=Alarm[]"
        " clearedAlarm=Alarm[]"
    ),
    "CommentAlarms": f"{_ENTITY} state alarmPattern=Alarm[] comment=Comment commentedAlarm=Alarm[]",
    "GroupAlarms": (
        f"{_ENTITY} alarmChangedTime=date sourceSystemId state correlatedAlarm=Alarm[] groupedAlarm=Alarm[]"
        " parentAlarm=Alarm"
    ),
    "UnGroupAlarms": (
        f"{_ENTITY} alarmChangedTime=date sourceSystemId state correlatedAlarm=Alarm[] parentAlarm=Alarm"
        " unGroupedAlarm=Alarm[]"
    ),
    # all APIs
    "EventSubscription": (
        f"{_ENTITY} callback=url query state=SubscriptionState lastError failingSince=date"
        " deadLetterCount=int deadLetter=DeadLetter[]"
    ),
    "DeadLetter": "eventId eventType eventTime=date resourceId attempts=int reason",
    "Error": "code! reason! message status referenceError=url",
}

# Mandatory in the official documents, left out by many clients, and known anyway.
_FILLED: Final = {"RelatedParty": _PARTY_FILLED}

SHAPES: Final[dict[str, Shape]] = {
    name: read_shape(name, words, _ENUMERATIONS, _FILLED.get(name, {})) for name, words in _WORDS.items()
}
"""All shapes, by name."""
