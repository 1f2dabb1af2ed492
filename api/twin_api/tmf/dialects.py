"""Older forms of an API: other paths and other names for the same things. On only when asked for.

A dialect renames attributes on their way in and out, and in queries; what the resources do stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from twin_api.tmf.shapes import Shape
from twin_api.tmf.shapes_data import SHAPES

__all__ = ["DIALECTS", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One API under another base path; `names`: by shape, ours to theirs."""

    name: str
    api: str
    base: str
    names: Mapping[str, Mapping[str, str]]
    single: frozenset[str] = frozenset()
    """Attributes, by our names, that are one object there and a list of them here."""

    def outward(self, shape: Shape, value: Any) -> Any:
        """A document with their names."""
        return self._renamed(shape, value, outward=True)

    def inward(self, shape: Shape, value: Any) -> Any:
        """A body with our names."""
        return self._renamed(shape, value, outward=False)

    def query(self, shape: Shape, raw: bytes) -> bytes:
        """A query with our names, for attributes of the first level."""
        text = raw.decode("ascii", "replace")
        for ours, theirs in self.names.get(shape.name, {}).items():
            for before in ("&", ",", "=", "-", "+", "%2C", "%2c"):
                for after in (".", "=", ",", "&", ">", "<", "%"):
                    text = f"&{text}&".replace(f"{before}{theirs}{after}", f"{before}{ours}{after}")[1:-1]
        return text.encode("ascii", "replace")

    def _renamed(self, shape: Shape, value: Any, *, outward: bool) -> Any:
        if isinstance(value, list):
            return [self._renamed(shape, each, outward=outward) for each in value]
        if not isinstance(value, Mapping):
            return value
        names = self.names.get(shape.name, {})
        to_ours = {theirs: ours for ours, theirs in names.items()}
        renamed: dict[str, Any] = {}
        for name, each in value.items():
            ours = str(name) if outward else to_ours.get(name, str(name))
            attribute = shape.attributes.get(ours)
            below = SHAPES[attribute.shape] if attribute is not None and attribute.shape else None
            inner = self._renamed(below, each, outward=outward) if below is not None else each
            if ours in self.single:
                inner = self._one_or_list(inner, outward=outward)
            renamed[names.get(ours, ours) if outward else ours] = inner
        return renamed

    @staticmethod
    def _one_or_list(value: Any, *, outward: bool) -> Any:
        if outward:
            return value[0] if isinstance(value, list) and value else value
        return [value] if isinstance(value, Mapping) else value


_ORDER: Final = {
    "ServiceOrder": {"serviceOrderItem": "orderItem"},
    "ServiceOrderItem": {
        "serviceOrderItem": "orderItem",
        "serviceOrderItemRelationship": "orderItemRelationship",
    },
}
_CATALOG: Final = {
    "ServiceSpecification": {
        "specCharacteristic": "serviceSpecCharacteristic",
    },
    "CharacteristicSpecification": {
        "characteristicValueSpecification": "serviceSpecCharacteristicValue",
        "charSpecRelationship": "serviceSpecCharRelationship",
    },
}

DIALECTS: Final[tuple[Dialect, ...]] = (
    Dialect("v3", "serviceCatalogManagement", "/tmf-api/serviceCatalogManagement/v3", _CATALOG),
    Dialect("v3", "serviceOrdering", "/tmf-api/serviceOrdering/v3", _ORDER),
    Dialect(
        "v3",
        "serviceTestManagement",
        "/tmf-api/serviceTestManagement/v3",
        {},
        frozenset(("relatedServiceSpecification",)),
    ),
)
"""All that there are."""
