"""The tables of what is kept for partners, and the steps between their versions.

Two databases are spoken to, SQLite and PostgreSQL. Tables begin with `partner_`: with a database by URL they
lie beside those of `federation.storage`. Steps are alembic's, shipped with the product and taken at open.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from domain_twin.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["VERSION_TABLE", "delivery", "key", "metadata", "outbox", "progress", "record", "store", "upgrade"]

VERSION_TABLE = "partner_schema"
_SCRIPTS = "federation.partners:migrations"

metadata = sa.MetaData()

store = sa.Table(
    "partner_store",
    metadata,
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),  # there is one
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("opened", sa.BigInteger, nullable=False),  # how often: sequences of each time lie apart
    sa.Column("sequence", sa.BigInteger, nullable=False),  # the last one written
)
record = sa.Table(
    "partner_record",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),  # the sequence of its first version
    sa.Column("changed_at", sa.BigInteger, nullable=False),  # nanoseconds
    sa.Column("body", sa.Text, nullable=False),  # JSON object
)
key = sa.Table(
    "partner_key",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("scheme", sa.String(16), primary_key=True),  # which of a partner's names this is
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("id", sa.String(255), nullable=False),  # of the record that was made
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of what the partner sent
    sa.Column("at", sa.BigInteger, nullable=False),
)
outbox = sa.Table(
    "partner_outbox",
    metadata,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("id", sa.String(255), nullable=False),
    sa.Column("event_type", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # of that time; of what was removed the last one
    sa.Index("partner_outbox_by_time", "at"),
)
delivery = sa.Table(
    "partner_delivery",
    metadata,
    sa.Column("outbox_sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hub_id", sa.String(255), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Index("partner_delivery_by_time", "state", "next_at"),
    sa.Index("partner_delivery_by_tenant", "tenant", "state"),
    sa.Index("partner_delivery_by_hub", "hub_id", "state", "outbox_sequence"),
)
progress = sa.Table(
    "partner_progress",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),  # of whoever reads the outbox
    sa.Column("sequence", sa.BigInteger, nullable=False),  # events up to here are dealt with
)


def upgrade(connection: sa.Connection) -> None:
    """Bring the database to this version, in the connection's transaction. Raises ConfigError if newer."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of its own plugins and steps
    from alembic import command
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    held = set(context.get_current_heads())
    if unknown := sorted(held - known):
        raise ConfigError(
            f"the partners' tables have version {', '.join(unknown)} and this broker knows {max(known)} at"
            " most: start the newer broker, or restore a backup made before it"
        )
    command.upgrade(config, "head")


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _SCRIPTS)
    attributes: dict[Any, Any] = config.attributes
    attributes["connection"] = connection
    return config
