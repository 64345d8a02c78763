"""The board's own order has live tasks only"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LIVE = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.drop_index("ix_task_board", "task")
    op.create_index(
        "ix_task_board",
        "task",
        ["workspace_id", "position", "id"],
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )


def downgrade() -> None:
    op.drop_index("ix_task_board", "task")
    op.create_index("ix_task_board", "task", ["workspace_id", "deleted_at", "position", "id"])
