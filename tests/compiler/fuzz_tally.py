"""What a fuzzer has done: it has to have met every feature, and compiled answers."""

from collections import Counter
from dataclasses import dataclass, field

from tests.compiler.fuzz_documents import FEATURES

MIN_SHARE_OF_FEATURE = 0.05
MIN_SHARE_COMPILED = 0.95


@dataclass
class Tally:
    documents: int = 0
    valid: int = 0
    compiled: int = 0
    with_errors: int = 0
    faults: int = 0
    faults_that_showed: int = 0
    features: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)

    @property
    def share_compiled(self) -> float:
        return self.compiled / max(self.valid, 1)

    def share_of(self, feature: str) -> float:
        return self.features[feature] / max(self.documents, 1)

    def report(self) -> str:
        shares = ", ".join(f"{name} {self.share_of(name):.0%}" for name in FEATURES)
        return (
            f"{self.documents} documents, {self.valid} valid, "
            f"{self.share_compiled:.1%} of those answered compiled "
            f"({self.with_errors} had errors to be reported by graphql-core); "
            f"{self.faults} faults ordered, {self.faults_that_showed} showed; "
            f"features: {shares}; left to graphql-core: {dict(self.reasons.most_common(8))}"
        )

    def check(self) -> None:
        rare = [name for name in FEATURES if self.share_of(name) < MIN_SHARE_OF_FEATURE]
        assert not rare, f"too rare: {rare}; {self.report()}"
        assert self.share_compiled >= MIN_SHARE_COMPILED, self.report()
