"""Executor KIRO: ``kiro-cli acp``, over the Agent Client Protocol only.

Natively it tells its progress as text, and no session that could be resumed. Written from public
documentation; it has not been run with the real program, which has an installer of its own.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from runner.executors.base import NOTHING, Launch, LaunchRefusedError, Parsed, RunSpec
from runner.executors.native import Credentials, NativeExecutor


@dataclass(frozen=True, slots=True)
class KiroExecutor(NativeExecutor):
    """See the module's text."""

    default_program: ClassVar[str] = "kiro-cli"
    install_hint: ClassVar[str] = "see Kiro's own documentation of its command line"
    credentials: ClassVar[Credentials] = Credentials(variables=("KIRO_API_KEY",))

    def build(self, spec: RunSpec) -> Launch:
        """Never: it has no native protocol. Raises LaunchRefusedError."""
        del spec
        raise LaunchRefusedError(f"{self.name} speaks the Agent Client Protocol only")

    def build_acp(self, spec: RunSpec) -> Launch:
        """An agent of the Agent Client Protocol."""
        return self.launch(spec, "acp", *self.model_option(spec), *self.settings.args)

    def read(self, value: dict[str, Any]) -> Parsed:
        """Nothing, for the same reason."""
        del value
        return NOTHING
