"""the time at which a message was sent, and which messages are read although older ones are not

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("message", sa.Column("read", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("message", sa.Column("created", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(sa.text("UPDATE message SET created = timestamp"))
    with op.batch_alter_table("message") as batch:
        batch.alter_column("created", server_default=None)


def downgrade() -> None:
    # A message that was read although an older one was not is unread again: the count must include it.
    op.execute(
        sa.text(
            "UPDATE mailbox SET unread_message_count = (SELECT count(*) FROM message"
            " WHERE recipient_id = mailbox.user_id AND timestamp > last_message_read_time)"
        )
    )
    op.drop_column("message", "created")
    op.drop_column("message", "read")
