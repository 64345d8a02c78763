"""What runs, dialects and search need beyond the first shape"""

from typing import Any

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
    _run_inputs()
    _webhooks()
    _add_queues_and_budgets()
    _fill_totals()
    _git()
    _orders_and_search()
    _devices()
    _artifacts()


def downgrade() -> None:
    for table in ("artifact", "notification", "presence", "device"):
        op.drop_table(table)
    _no_orders_and_search()
    _no_git()
    _drop_queues_and_budgets()
    _no_webhooks()
    _no_run_inputs()


# --- webhooks ---

_OF_WEBHOOKS = (
    sa.Column("public_id", sa.String(length=12), nullable=False, server_default=""),
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
    op.execute("UPDATE webhook SET public_id = substr(replace(id, '-', ''), 1, 12)")
    op.create_index("uq_webhook_public_id", "webhook", ["public_id"], unique=True)
    for column in _OF_DELIVERIES:
        op.add_column("delivery", column._copy())
    op.create_index("ix_delivery_created", "delivery", ["created_at"])
    op.create_index("ix_delivery_order", "delivery", ["webhook_id", "status", "seq"])


def _no_webhooks() -> None:
    op.drop_index("ix_delivery_order", "delivery")
    op.drop_index("ix_delivery_created", "delivery")
    for column in _OF_DELIVERIES:
        op.drop_column("delivery", column.name)
    op.drop_index("uq_webhook_public_id", "webhook")
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
    op.add_column("workspace", sa.Column("worktree_setup", JSON, nullable=True))


def _no_git() -> None:
    op.drop_column("workspace", "worktree_setup")
    op.drop_table("git_credential")


# --- artifacts ---


def _artifacts() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=True),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=30), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("content_type", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("storage_path", sa.String(length=700), nullable=False),
        sa.Column("metadata", JSON, nullable=True),
        sa.Column("created_by", sa.String(length=36), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("uploaded_at", TIME, nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        *(
            sa.ForeignKeyConstraint(
                [f"{kind}_id"],
                [f"{kind}.id"],
                name=op.f(f"fk_artifact_{kind}_id"),
                ondelete="CASCADE",
            )
            for kind in ("workspace", "task", "run")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("storage_path", name=op.f("uq_artifact_storage_path")),
    )
    op.create_index("ix_artifact_run", "artifact", ["run_id", "created_at", "id"])
    op.create_index("ix_artifact_task", "artifact", ["task_id", "run_id"])
    op.create_index("ix_artifact_expires", "artifact", ["expires_at"])


# --- queues, totals, budgets, commands ---
# Columns are added in place: copying a table would, on SQLite, delete what refers to it.

RUN_COLUMNS: dict[str, Any] = {
    "command": sa.Text(),
    "working_directory": sa.String(length=4096),
    "token_budget": sa.BigInteger(),
    "cost_budget_usd": sa.Float(),
}
WORKSPACE_COLUMNS: dict[str, Any] = {
    "run_token_budget": sa.BigInteger(),
    "run_cost_budget_usd": sa.Float(),
    "day_token_budget": sa.BigInteger(),
    "day_cost_budget_usd": sa.Float(),
}


def _add_queues_and_budgets() -> None:
    op.add_column("run", sa.Column("queue_key", sa.Float(), nullable=False, server_default="0"))
    for name, kind in RUN_COLUMNS.items():
        op.add_column("run", sa.Column(name, kind, nullable=True))
    for name, kind in WORKSPACE_COLUMNS.items():
        op.add_column("workspace", sa.Column(name, kind, nullable=True))
    op.drop_index("ix_run_queue", table_name="run")
    op.create_index(
        "ix_run_queue", "run", ["status", "queue_rank", "queue_key", "queued_at", "id"]
    )
    op.create_index(
        "ix_run_command", "run", ["workspace_id", "kind", "created_by", "created_at", "id"]
    )
    _widen_token_counts(sa.Integer(), sa.BigInteger())
    op.create_table(
        "run_total",
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("queue_class", sa.String(length=6), nullable=False),
        sa.Column("status", sa.String(length=14), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspace.id"],
            name=op.f("fk_run_total_workspace_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("workspace_id", "queue_class", "status", name=op.f("pk_run_total")),
    )
    op.create_table(
        "queue_statistic",
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("queue_class", sa.String(length=6), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in (
                "enqueued",
                "retried",
                "started",
                "completed",
                "failed",
                "cancelled",
                "ended",
            )
        ),
        sa.Column("wait_seconds", sa.Float(), nullable=False),
        sa.Column("run_seconds", sa.Float(), nullable=False),
        sa.Column("most_waiting", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"],
            ["workspace.id"],
            name=op.f("fk_queue_statistic_workspace_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "workspace_id", "queue_class", "seconds", "starts_at", name=op.f("pk_queue_statistic")
        ),
    )
    op.create_table(
        "usage_total",
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("subject", sa.String(length=10), nullable=False),
        sa.Column("subject_id", sa.String(length=36), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "workspace_id", "subject", "subject_id", name=op.f("pk_usage_total")
        ),
    )


def _fill_totals() -> None:
    """Sums over the runs there are; nothing tells the day of a use, so it is the day of the end."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    queued = "strftime('%s', queued_at)" if sqlite else "extract(epoch from queued_at)"
    op.execute(
        "UPDATE run SET queue_key = (10 - priority_level) * 1e10 + "
        f"CAST({queued} AS double precision) WHERE queued_at IS NOT NULL"
    )
    op.execute(
        "INSERT INTO run_total (workspace_id, queue_class, status, total) "
        "SELECT workspace_id, queue_class, status, count(*) FROM run "
        f"WHERE managed = {'1' if sqlite else 'true'} AND kind <> 'COMMAND' "
        "GROUP BY workspace_id, queue_class, status"
    )
    day = "COALESCE(finished_at, started_at, created_at)"
    day = f"strftime('%Y-%m-%d', {day})" if sqlite else f"to_char({day} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    for workspace, subject, subject_id in (
        ("workspace_id", "workspace", "workspace_id"),
        ("workspace_id", "task", "task_id"),
        ("workspace_id", "agent", "agent_id"),
        ("workspace_id", "day", day),
        ("'site'", "day", day),
    ):
        op.execute(
            "INSERT INTO usage_total (workspace_id, subject, subject_id, input_tokens, "
            "output_tokens, cached_tokens, cost_nano_usd) "
            f"SELECT {workspace}, '{subject}', {subject_id}, sum(input_tokens), "
            "sum(output_tokens), sum(cached_tokens), "
            "sum(CAST(round(cost_usd * 1e9) AS bigint)) FROM run "
            f"WHERE {subject_id} IS NOT NULL AND (input_tokens > 0 OR output_tokens > 0 "
            "OR cached_tokens > 0 OR cost_usd > 0) GROUP BY 1, 3"
        )


def _drop_queues_and_budgets() -> None:
    op.drop_table("usage_total")
    op.drop_table("queue_statistic")
    op.drop_table("run_total")
    _widen_token_counts(sa.BigInteger(), sa.Integer())
    op.drop_index("ix_run_command", table_name="run")
    op.drop_index("ix_run_queue", table_name="run")
    op.create_index(
        "ix_run_queue", "run", ["status", "queue_rank", "priority_level", "queued_at", "id"]
    )
    for name in WORKSPACE_COLUMNS:
        op.drop_column("workspace", name)
    for name in ("queue_key", *RUN_COLUMNS):
        op.drop_column("run", name)


def _widen_token_counts(old: Any, new: Any) -> None:
    """SQLite's INTEGER is wide enough, and altering it would copy the table."""
    if op.get_bind().dialect.name == "postgresql":
        for name in ("input_tokens", "output_tokens", "cached_tokens"):
            op.alter_column("run", name, existing_type=old, type_=new, existing_nullable=False)


# --- what runs ask and are told ---


def _run_inputs() -> None:
    questions = sa.Column("questions", JSON, nullable=False, server_default=sa.text("'[]'"))
    op.add_column("run", questions)
    op.add_column("run", sa.Column("input_count", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "run_input",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_run_input_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_input")),
    )


def _no_run_inputs() -> None:
    op.drop_table("run_input")
    op.drop_column("run", "input_count")
    op.drop_column("run", "questions")


# --- orders of long lists, and words in tasks ---

_KEY = "w.number * 4294967296 + {row}.number"
_ADD = (
    f"INSERT INTO task_text (rowid, title, description) SELECT {_KEY}, {{row}}.title, "
    "{row}.description FROM workspace w WHERE w.id = {row}.workspace_id"
)
_REMOVE = (
    f"INSERT INTO task_text (task_text, rowid, title, description) SELECT 'delete', {_KEY}, "
    "{row}.title, {row}.description FROM workspace w WHERE w.id = {row}.workspace_id"
)
_TRIGGERS = {
    "task_text_added": ("AFTER INSERT ON task", _ADD.format(row="new")),
    "task_text_removed": ("AFTER DELETE ON task", _REMOVE.format(row="old")),
    "task_text_changed": (
        "AFTER UPDATE OF title, description ON task "
        "WHEN old.title <> new.title OR old.description <> new.description",
        f"{_REMOVE.format(row='old')}; {_ADD.format(row='new')}",
    ),
}
_TRIGRAM_INDEXES = {"ix_task_title_trigram": "title", "ix_task_description_trigram": "description"}


def _orders_and_search() -> None:
    op.create_index("ix_task_title", "task", ["workspace_id", "title", "id"])
    op.create_index(
        "ix_task_priority",
        "task",
        ["workspace_id", sa.text("priority_level DESC"), "position", "id"],
    )
    if op.get_bind().dialect.name == "postgresql":
        _trigrams_of_postgresql()
    elif op.get_bind().scalar(sa.text("SELECT sqlite_compileoption_used('ENABLE_FTS5')")):
        _trigrams_of_sqlite()


def _trigrams_of_sqlite() -> None:
    """An index without the texts themselves; triggers keep it, and so tell it what was there."""
    op.execute(
        "CREATE VIRTUAL TABLE task_text USING fts5"
        "(title, description, content='', tokenize='trigram')"
    )
    op.execute(
        f"INSERT INTO task_text (rowid, title, description) SELECT {_KEY.format(row='t')}, "
        "t.title, t.description FROM task t JOIN workspace w ON w.id = t.workspace_id"
    )
    for name, (when, what) in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN {what}; END")


def _trigrams_of_postgresql() -> None:
    """Searches read the whole workspace where the extension cannot be had: no reason to fail."""
    bind = op.get_bind()
    try:
        with bind.begin_nested():
            bind.execute(sa.text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except sa.exc.DBAPIError:
        return
    for name, column in _TRIGRAM_INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON task USING gin (lower({column}) gin_trgm_ops)")


def _no_orders_and_search() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for name in _TRIGRAM_INDEXES:
            op.execute(f"DROP INDEX IF EXISTS {name}")
    else:
        for name in _TRIGGERS:
            op.execute(f"DROP TRIGGER IF EXISTS {name}")
        op.execute("DROP TABLE IF EXISTS task_text")
    op.drop_index("ix_task_priority", "task")
    op.drop_index("ix_task_title", "task")
# --- devices, presence, notifications ---


def _devices() -> None:
    op.create_table(
        "device",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("platform", sa.String(length=10), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("token_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("last_seen_at", TIME, nullable=False),
        _refers("device", "user_id", "user_account"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("user_id", "token_hash", name=op.f("uq_device_user_id_token_hash")),
    )
    op.create_table(
        "presence",
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("device_id", sa.String(length=36), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        _refers("presence", "task_id", "task"),
        _refers("presence", "device_id", "device"),
        sa.PrimaryKeyConstraint("task_id", "device_id", name=op.f("pk_presence")),
    )
    op.create_index("ix_presence_device_id", "presence", ["device_id"])
    op.create_index("ix_presence_expires", "presence", ["expires_at"])
    op.create_table(
        "notification",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("workspace_id", sa.String(length=36), nullable=False),
        sa.Column("user_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIME, nullable=False),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        _refers("notification", "workspace_id", "workspace"),
        _refers("notification", "user_id", "user_account"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
    )
    op.create_index("ix_notification_due", "notification", ["next_attempt_at"])
    op.create_index("ix_notification_user_id", "notification", ["user_id"])
    op.create_index("ix_notification_workspace_id", "notification", ["workspace_id"])


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{to}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE"
    )
