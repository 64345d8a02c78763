"""A queue is searched by who starts its runs"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ORDER = ["queue_rank", "queue_key", "queued_at", "id"]


def upgrade() -> None:
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["status", "managed", *ORDER])


def downgrade() -> None:
    op.drop_index("ix_run_queue", "run")
    op.create_index("ix_run_queue", "run", ["status", *ORDER])
