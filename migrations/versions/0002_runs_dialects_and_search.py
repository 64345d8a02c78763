"""What runs, dialects and search need beyond the first shape"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

TIME = sa.DateTime(timezone=True)
JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _webhooks()
    _git()


def downgrade() -> None:
    _no_git()
    _no_webhooks()


# --- webhooks ---

_OF_WEBHOOKS = (
    sa.Column("previous_secret_until", TIME, nullable=True),
    sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
)
_OF_DELIVERIES = (
    sa.Column("event_type", sa.String(length=40), nullable=False, server_default=""),
    sa.Column("entity_id", sa.String(length=80), nullable=False, server_default=""),
    sa.Column("attempt_count", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("is_redelivery", sa.Boolean(), nullable=False, server_default=sa.false()),
    sa.Column("lease_owner", sa.String(length=100), nullable=True),
    sa.Column("lease_token", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("lease_expires_at", TIME, nullable=True),
)


def _webhooks() -> None:
    op.execute("ALTER TABLE webhook RENAME COLUMN delivered_seq TO read_seq")
    for column in _OF_WEBHOOKS:
        op.add_column("webhook", column._copy())
    for column in _OF_DELIVERIES:
        op.add_column("delivery", column._copy())
    op.create_index("ix_delivery_created", "delivery", ["created_at"])
    op.create_index("ix_delivery_order", "delivery", ["webhook_id", "status", "seq"])


def _no_webhooks() -> None:
    op.drop_index("ix_delivery_order", "delivery")
    op.drop_index("ix_delivery_created", "delivery")
    for column in _OF_DELIVERIES:
        op.drop_column("delivery", column.name)
    for column in _OF_WEBHOOKS:
        op.drop_column("webhook", column.name)
    op.execute("ALTER TABLE webhook RENAME COLUMN read_seq TO delivered_seq")


# --- git ---


def _git() -> None:
    op.create_table(
        "git_credential",
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("secret_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("updated_by", sa.String(length=36), nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspace.id"],
            name=op.f("fk_git_credential_workspace_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "host", name=op.f("pk_git_credential")),
    )
    with op.batch_alter_table("workspace", schema=None) as batch_op:
        batch_op.add_column(sa.Column("worktree_setup", JSON, nullable=True))


def _no_git() -> None:
    with op.batch_alter_table("workspace", schema=None) as batch_op:
        batch_op.drop_column("worktree_setup")
    op.drop_table("git_credential")
