"""Which adapter belongs to which name, and which names have none."""

from runner.executors.base import Executor, ExecutorSettingsError
from runner.executors.claude_code import ClaudeCodeExecutor
from runner.executors.codex import CodexExecutor
from runner.executors.cursor import CursorExecutor
from runner.executors.gemini import GeminiExecutor
from runner.executors.native import NativeExecutor, NativeSettings
from runner.executors.opencode import KiloExecutor, OpencodeExecutor

ADAPTERS: dict[str, type[NativeExecutor]] = {
    "CLAUDE_CODE": ClaudeCodeExecutor,
    "CODEX": CodexExecutor,
    "GEMINI": GeminiExecutor,
    "OPENCODE": OpencodeExecutor,
    "KILO": KiloExecutor,
    "CURSOR": CursorExecutor,
}
"""Executors that work without a command of the operator's."""

UNAVAILABLE = {
    "IFLOW": "the service behind iFlow has been closed and its program is no longer published",
    "ANTIGRAVITY": "its program (agy) is made for a terminal and tells no progress that could be "
    "followed",
    "KIRO": "its program (kiro-cli) tells its progress as text only, and no session that could be "
    "resumed",
}
"""Names without an adapter, and why. With an ``argv`` they are commands like any other."""


def make_native(name: str, settings: NativeSettings) -> Executor:
    """The built-in adapter of this name. Raises ExecutorSettingsError where there is none."""
    adapter = ADAPTERS.get(name)
    if adapter is None:
        raise ExecutorSettingsError(why_unavailable(name))
    return adapter(name, settings)


def why_unavailable(name: str) -> str:
    """A sentence on why this name cannot be used without a command of the operator's."""
    reason = UNAVAILABLE.get(name)
    if reason is None:
        return f'{name} needs a command: "argv": ["program", "{{prompt_file}}"]'
    return f"{name} is not available: {reason}"
