"""The second version: how far the outbox has been read, and deliveries found by their subscription."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the index."""
    op.create_table(
        "partner_progress",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index("partner_delivery_by_hub", "partner_delivery", ["hub_id", "state", "outbox_sequence"])
