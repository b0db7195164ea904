"""skeletons of names, longer message bodies

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# All earlier names are ASCII, so this is the skeleton of ``microblog_rt.names``.
FILL = """
    UPDATE "user" SET username_skeleton =
    replace(replace(replace(replace(lower(username), '0', 'o'), '1', 'l'), 'i', 'l'), 'm', 'rn')
"""


def upgrade() -> None:
    op.add_column("user", sa.Column("username_skeleton", sa.String(256), nullable=True))
    op.execute(FILL)
    op.create_index("ix_user_username_skeleton", "user", ["username_skeleton"])
    with op.batch_alter_table("message") as message:
        message.alter_column("body", existing_type=sa.String(140), type_=sa.String(1400), existing_nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("message") as message:
        message.alter_column("body", existing_type=sa.String(1400), type_=sa.String(140), existing_nullable=False)
    op.drop_index("ix_user_username_skeleton", "user")
    op.drop_column("user", "username_skeleton")
