"""the first tables

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only where the type is exactly INTEGER.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "user",
        sa.Column("id", ID, nullable=False),
        sa.Column("username", sa.String(64), nullable=False),
        sa.Column("username_key", sa.String(64), nullable=False),
        sa.Column("email", sa.String(254), nullable=True),
        sa.Column("password_hash", sa.String(256), nullable=False),
        sa.Column("member_since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("username_key", name="uq_user_username_key"),
    )
    op.create_table(
        "mailbox",
        sa.Column("user_id", ID, autoincrement=False, nullable=False),
        sa.Column("clock", sa.BigInteger(), nullable=False),
        sa.Column("clock_before", sa.BigInteger(), nullable=False),
        sa.Column("last_message_read_time", sa.BigInteger(), nullable=False),
        sa.Column("unread_message_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_mailbox"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_mailbox_user_id_user"),
    )
    op.create_table(
        "session",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("remembered", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("last_used", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_session"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_session_user_id_user"),
    )
    op.create_index("ix_session_user_id", "session", ["user_id"])
    op.create_table(
        "message",
        sa.Column("id", ID, nullable=False),
        sa.Column("sender_id", ID, nullable=False),
        sa.Column("recipient_id", ID, nullable=False),
        sa.Column("body", sa.String(140), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
        sa.ForeignKeyConstraint(["sender_id"], ["user.id"], name="fk_message_sender_id_user"),
        sa.ForeignKeyConstraint(["recipient_id"], ["user.id"], name="fk_message_recipient_id_user"),
        sa.UniqueConstraint("recipient_id", "timestamp", name="uq_message_recipient_id_timestamp"),
        sa.UniqueConstraint("sender_id", "idempotency_key", name="uq_message_sender_id_idempotency_key"),
    )
    op.create_table(
        "notification",
        sa.Column("user_id", ID, autoincrement=False, nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("payload_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "name", name="pk_notification"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_notification_user_id_user"),
    )


def downgrade() -> None:
    for table in ("notification", "message", "session", "mailbox", "user"):
        op.drop_table(table)
