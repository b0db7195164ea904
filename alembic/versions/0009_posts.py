"""posts, follows, mentions, and what people say about themselves

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# The type of "user"."id".
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# A release without these columns inserts mailboxes, so each has a default.
COUNTERS = {
    "last_post_seen": sa.BigInteger(),
    "unread_post_count": sa.Integer(),
    "last_mention_read_time": sa.BigInteger(),
    "unread_mention_count": sa.Integer(),
}


def upgrade() -> None:
    op.add_column("user", sa.Column("display_name", sa.String(500), nullable=True))
    op.add_column("user", sa.Column("about_me", sa.String(1400), nullable=True))
    for name, kind in COUNTERS.items():
        op.add_column("mailbox", sa.Column(name, kind, server_default=sa.text("0"), nullable=False))
    op.create_table(
        "post",
        sa.Column("id", ID, nullable=False),
        sa.Column("user_id", ID, nullable=False),
        sa.Column("body", sa.String(1400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("reply_to_id", ID, nullable=True),
        sa.Column("delivered", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("idempotency_key", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_post_user_id_user"),
        sa.ForeignKeyConstraint(["reply_to_id"], ["post.id"], name="fk_post_reply_to_id_post"),
        sa.PrimaryKeyConstraint("id", name="pk_post"),
        sa.UniqueConstraint("user_id", "idempotency_key", name="uq_post_user_id_idempotency_key"),
        sqlite_autoincrement=True,  # the id of a deleted post is not given again
    )
    op.create_index("ix_post_user_id_id", "post", ["user_id", "id"])
    op.create_index("ix_post_reply_to_id_id", "post", ["reply_to_id", "id"])
    undelivered = sa.not_(sa.column("delivered", sa.Boolean()))
    op.create_index("ix_post_undelivered", "post", ["user_id"], sqlite_where=undelivered, postgresql_where=undelivered)
    op.create_table(
        "follow",
        sa.Column("follower_id", ID, autoincrement=False, nullable=False),
        sa.Column("followed_id", ID, autoincrement=False, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("delivered_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["follower_id"], ["user.id"], name="fk_follow_follower_id_user"),
        sa.ForeignKeyConstraint(["followed_id"], ["user.id"], name="fk_follow_followed_id_user"),
        sa.PrimaryKeyConstraint("follower_id", "followed_id", name="pk_follow"),
    )
    op.create_index("ix_follow_followed_id_follower_id", "follow", ["followed_id", "follower_id"])
    op.create_table(
        "mention",
        sa.Column("id", ID, nullable=False),
        sa.Column("recipient_id", ID, nullable=False),
        sa.Column("post_id", ID, nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("read", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["recipient_id"], ["user.id"], name="fk_mention_recipient_id_user"),
        sa.ForeignKeyConstraint(["post_id"], ["post.id"], name="fk_mention_post_id_post"),
        sa.PrimaryKeyConstraint("id", name="pk_mention"),
        sa.UniqueConstraint("recipient_id", "timestamp", name="uq_mention_recipient_id_timestamp"),
        sa.UniqueConstraint("post_id", "recipient_id", name="uq_mention_post_id_recipient_id"),
    )


def downgrade() -> None:
    for table in ("mention", "follow", "post"):
        op.drop_table(table)
    for name in COUNTERS:
        op.drop_column("mailbox", name)
    # Clients apply only what is newer than their cursors; the older release has no page for these counts.
    op.execute(sa.text("DELETE FROM notification WHERE name IN ('unread_post_count', 'unread_mention_count')"))
    op.drop_column("user", "about_me")
    op.drop_column("user", "display_name")
