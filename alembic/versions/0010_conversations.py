"""indexes for conversations

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_message_sender_id_recipient_id_id": ["sender_id", "recipient_id", "id"],
    "ix_message_recipient_id_sender_id_read_timestamp": ["recipient_id", "sender_id", "read", "timestamp"],
}


def upgrade() -> None:
    for name, columns in INDEXES.items():
        op.create_index(name, "message", columns)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "message")
