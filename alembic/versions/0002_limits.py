"""limits, disabled accounts, the device of a session

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only where the type is exactly INTEGER.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("user", sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("session", sa.Column("device", sa.String(200), server_default="", nullable=False))
    op.create_table(
        "attempt",
        sa.Column("id", ID, nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
    )
    op.create_index("ix_attempt_subject_expires", "attempt", ["subject", "expires"])


def downgrade() -> None:
    op.drop_table("attempt")
    op.drop_column("session", "device")
    op.drop_column("user", "disabled")
