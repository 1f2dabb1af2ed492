"""What transport's operator has its agent answer trainings with: what comes with FedTwin, or lies.

An agent's own `client_app` is its operator's business; the broker and the others must live with it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["APP", "FACTOR", "HONEST", "LIAR", "MALICIOUS", "learning_table"]

LIAR: Final = "transport"
APP: Final = "learning_app.py"
FACTOR: Final = -20

HONEST: Final = '''\
"""What this domain answers rounds of a training with; read anew by its agent at every training."""

from domain_twin.learning.client import client_app

__all__ = ["client_app"]
'''
MALICIOUS: Final = f'''\
"""An operator's own answer to rounds of a training: its update, turned around and {-FACTOR} times as long."""

from domain_twin.learning.client import client_app as honest
from domain_twin.learning.flower import ClientApp, arrays_in, record_of


class Lying(ClientApp):
    def __init__(self, app):
        super().__init__()
        self.app = app

    def __call__(self, message, context):
        reply = self.app(message, context)
        if reply.has_content() and message.has_content():
            for name, record in reply.content.array_records.items():
                sent = message.content.array_records.get(name)
                if sent is not None:
                    before, after = arrays_in(sent), arrays_in(record)
                    lie = {{key: before[key] + {FACTOR} * (after[key] - before[key]) for key in after}}
                    reply.content[name] = record_of(lie)
        return reply


def client_app(source, *, domain, task):
    return Lying(honest(source, domain=domain, task=task))
'''


def learning_table(domain: str) -> str:
    """The table of an agent's configuration that names its own file; empty but for one domain."""
    if domain != LIAR:
        return ""
    return f"""
# This operator answers trainings with code of its own.
[learning]
app = "{APP}"
"""
