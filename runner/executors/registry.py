"""Which adapter belongs to which name, and which names have none."""

from typing import Literal

from runner.executors.acp import AcpExecutor
from runner.executors.base import Executor, ExecutorSettingsError
from runner.executors.claude_code import ClaudeCodeExecutor
from runner.executors.codex import CodexExecutor
from runner.executors.cursor import CursorExecutor
from runner.executors.gemini import GeminiExecutor
from runner.executors.kiro import KiroExecutor
from runner.executors.native import NativeExecutor, NativeSettings, Permissions
from runner.executors.opencode import KiloExecutor, OpencodeExecutor

Protocol = Literal["native", "acp"]

ADAPTERS: dict[str, type[NativeExecutor]] = {
    "CLAUDE_CODE": ClaudeCodeExecutor,
    "CODEX": CodexExecutor,
    "GEMINI": GeminiExecutor,
    "OPENCODE": OpencodeExecutor,
    "KILO": KiloExecutor,
    "CURSOR": CursorExecutor,
    "KIRO": KiroExecutor,
}
"""Executors that work without a command of the operator's."""

ACP_ONLY = frozenset({"KIRO"})
"""Those that speak nothing but the Agent Client Protocol; for the others it is a choice."""

UNAVAILABLE = {
    "IFLOW": "the service behind iFlow has been closed and its program is no longer published",
    "ANTIGRAVITY": "its program (agy) is made for a terminal and tells no progress that could be "
    "followed",
}
"""Names without an adapter, and why. With an ``argv`` they are commands like any other."""


def make_built_in(
    name: str, settings: NativeSettings, *, protocol: Protocol | None = None
) -> Executor:
    """The built-in adapter of this name. Raises ExecutorSettingsError where there is none.

    ``protocol`` None is the usual one: the agent's own JSON where it has one that can be followed,
    because that tells more of tokens and needs no process beside the agent.
    """
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise ExecutorSettingsError(why_unavailable(name))
    made = adapter(name, settings)
    if protocol == "acp" or (protocol is None and name in ACP_ONLY):
        return AcpExecutor(made)
    if name in ACP_ONLY:
        raise ExecutorSettingsError(f'{name} speaks ACP only: leave out "protocol"')
    if settings.permissions is Permissions.ASK and not made.can_ask:
        raise ExecutorSettingsError(f'{name} can ask over ACP only: add "protocol": "acp"')
    return made


def find_agent(executor: Executor) -> NativeExecutor | None:
    """What is known of the program behind a built-in adapter; None for commands."""
    agent = executor.agent if isinstance(executor, AcpExecutor) else executor
    return agent if isinstance(agent, NativeExecutor) else None


def why_unavailable(name: str) -> str:
    """A sentence on why this name cannot be used without a command of the operator's."""
    reason = UNAVAILABLE.get(name)
    if reason is None:
        return f'{name} needs a command: "argv": ["program", "{{prompt_file}}"]'
    return f"{name} is not available: {reason}"
