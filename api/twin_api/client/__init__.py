"""Twins as a service, from Python: discover, order, look inside, run, retire. A client of HTTP alone.

```python
from twin_api.client import PartnerClient

async with PartnerClient.connect("partner.toml") as partner:
    order = await partner.settled(await partner.order_twin("my twin", domains=["ran", "edge"]))
    twin = await partner.twin(order.twins[0])
```
"""

from twin_api.client.documents import (
    Definition,
    Document,
    Event,
    Measure,
    Order,
    Part,
    Resource,
    Run,
    Specification,
    Threshold,
    Twin,
    Violation,
)
from twin_api.client.errors import ApiError, NoAnswer
from twin_api.client.partner import PartnerClient

__all__ = [
    "ApiError",
    "Definition",
    "Document",
    "Event",
    "Measure",
    "NoAnswer",
    "Order",
    "Part",
    "PartnerClient",
    "Resource",
    "Run",
    "Specification",
    "Threshold",
    "Twin",
    "Violation",
]
