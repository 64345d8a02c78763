"""Bodies and answers of the routes of runs."""

from typing import Annotated, Any

from pydantic import BaseModel, model_validator

from rest_compat.posthog import words
from rest_compat.posthog.fields import boolean, choice, items, json_object, text, uuid
from rest_compat.posthog.shapes import Shape
from rest_compat.refusals import BadShape, Problem

PERMISSION_MODES = {
    "claude": ("default", "acceptEdits", "plan", "bypassPermissions", "auto"),
    "codex": ("auto", "read-only", "full-access"),
}
RUNTIME_NEEDED = "This field is required when selecting a cloud runtime."


def field_refused(where: str | tuple[str | int, ...], code: str, message: str) -> BadShape:
    """A refusal of one field that depends on others."""
    path = (where,) if isinstance(where, str) else where
    return BadShape([Problem(path, code, message)])


class _Nullable(BaseModel):
    """A body in which null means the same as leaving the field out."""

    @model_validator(mode="before")
    @classmethod
    def without_nulls(cls, value: Any) -> Any:
        """Apps of several eras send null for what they do not mean."""
        return (
            {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        )


class NewRunBody(_Nullable):
    """How a run is to be executed."""

    environment: Annotated[str, choice(*words.ENVIRONMENTS)] = "local"
    mode: Annotated[str, choice("interactive", "background")] = "background"
    branch: Annotated[str | None, text(max_length=255)] = None
    runtime_adapter: Annotated[str | None, choice(*words.ADAPTERS)] = None
    model: Annotated[str | None, text(max_length=100, blank=False)] = None
    reasoning_effort: Annotated[str | None, choice("low", "medium", "high", "xhigh", "max")] = None
    initial_permission_mode: Annotated[str | None, text(max_length=50)] = None
    pr_authorship_mode: Annotated[str | None, choice("user", "bot")] = None
    run_source: Annotated[str | None, choice("manual", "signal_report")] = None
    signal_report_id: Annotated[str | None, text(max_length=255, blank=False)] = None
    sandbox_environment_id: Annotated[str | None, uuid()] = None
    github_user_token: Annotated[str | None, text(max_length=500)] = None
    home_quick_action: Annotated[str | None, text(max_length=120)] = None
    auto_publish: Annotated[bool | None, boolean()] = None
    rtk_enabled: Annotated[bool | None, boolean()] = None
    custom_image_id: Annotated[str | None, uuid()] = None

    def check_runtime(self) -> None:
        """Adapter and model go together; a permission mode belongs to an adapter.

        Raises:
            BadShape
        """
        if self.runtime_adapter or self.model or self.reasoning_effort:
            for name in ("runtime_adapter", "model"):
                if getattr(self, name) is None:
                    raise field_refused(name, "invalid_input", RUNTIME_NEEDED)
        mode, adapter = self.initial_permission_mode, self.runtime_adapter
        if mode is not None and adapter is None:
            message = "This field requires runtime_adapter to be set."
            raise field_refused("initial_permission_mode", "invalid_input", message)
        if mode is not None and mode not in PERMISSION_MODES[str(adapter)]:
            message = f'"{mode}" is not a valid choice.'
            raise field_refused("initial_permission_mode", "invalid_choice", message)

    def state(self) -> dict[str, Any]:
        """What the run remembers of it."""
        names = (
            "runtime_adapter", "model", "reasoning_effort", "initial_permission_mode",
            "pr_authorship_mode", "run_source", "signal_report_id", "auto_publish", "rtk_enabled",
        )  # fmt: skip
        state = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.runtime_adapter is not None:
            state["provider"] = words.PROVIDERS[self.runtime_adapter]
        if self.branch:
            state["pr_base_branch"] = self.branch
        if self.run_source == "signal_report":
            state["pr_authorship_mode"] = "bot"
        return {"mode": self.mode, **state}


class StartRunBody(NewRunBody):
    """A run that is started at once."""

    resume_from_run_id: Annotated[str | None, uuid()] = None
    pending_user_message: Annotated[str | None, text(max_length=100_000)] = None
    pending_user_artifact_ids: Annotated[list[Annotated[str, text(max_length=128)]], items()] = []


class RunPatch(BaseModel):
    """What a client says of its run; objects are merged key by key."""

    status: Annotated[str | None, choice(*words.RUN_STATUSES)] = None
    branch: Annotated[str | None, text(max_length=255, null=True)] = None
    stage: Annotated[str | None, text(max_length=100, null=True)] = None
    error_message: Annotated[str | None, text(null=True)] = None
    output: Annotated[dict[str, Any] | None, json_object(null=True)] = None
    state: Annotated[dict[str, Any] | None, json_object()] = None
    state_remove_keys: Annotated[
        list[Annotated[str, text(max_length=200)]], items(empty_code="empty")
    ] = []
    environment: Annotated[str | None, choice("local")] = None


class OutputBody(BaseModel):
    """A run's whole output."""

    output: Any


class LogBody(BaseModel):
    """Entries for a run's log."""

    entries: Annotated[
        list[Annotated[dict[str, Any], json_object()]], items(empty_code="invalid_input")
    ]


class StartBody(_Nullable):
    """What the agent is told first."""

    pending_user_message: Annotated[str | None, text(max_length=100_000)] = None
    pending_user_artifact_ids: Annotated[list[Annotated[str, text(max_length=128)]], items()] = []


class CommandBody(BaseModel):
    """A JSON-RPC call to whoever executes the run."""

    jsonrpc: Annotated[str, choice("2.0")]
    method: Annotated[
        str,
        choice("user_message", "cancel", "close", "permission_response", "set_config_option"),
    ]
    params: Annotated[dict[str, Any] | None, json_object(null=True)] = None
    id: str | int | None = None


class RelayBody(BaseModel):
    """A message for a chat thread."""

    text: Annotated[str, text(max_length=10_000)]
    text_parts: Any = None
    message_id: Annotated[str | None, text(max_length=128, null=True)] = None
    trace_id: Annotated[str | None, text(max_length=255, null=True)] = None


class RelayShape(Shape):
    """What became of a message."""

    status: str
    relay_id: str | None = None


class TokenShape(Shape):
    """A token for a sandbox."""

    token: str


class CommandShape(Shape):
    """A JSON-RPC answer."""

    jsonrpc: str
    id: str | int | None
    result: dict[str, Any]
