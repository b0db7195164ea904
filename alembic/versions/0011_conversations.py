"""indexes for conversations

Revision ID: 0011
Revises: 0008
"""

from alembic import op

revision = "0011"
down_revision = "0008"
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
