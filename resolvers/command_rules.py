"""Which commands may run: programs, and for each the arguments it may have.

Only what is listed may run. Options are listed one by one, because single ones of harmless programs
read any file (``grep -f``), write files (``git log --output``) or run programs (``git -c``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What an argument is."""

    TEXT = "text"
    PATH = "path"
    """A file or folder, or what might be one: it has to lie inside the working directory's root."""
    NUMBER = "number"
    """Digits, with a unit or a sign where programs take one: ``10``, ``+5``, ``0.5s``, ``2K``."""
    FORMAT = "format"
    """A format that begins with ``+``."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rule:
    """The arguments a program, or a subcommand of one, may have.

    ``flags`` are whole options (``--all``) and letters (``l``) that may be written together;
    ``values`` are options that take a value, with what it is; ``joined`` those that take one only
    behind ``=``. ``first`` is what the first operand is, where it differs from ``operands``.
    ``free``: every word is a text, also one with ``-``. ``extra`` is put in front of the arguments.
    """

    flags: frozenset[str] = frozenset()
    values: Mapping[str, Kind] = field(default_factory=dict)
    joined: Mapping[str, Kind] = field(default_factory=dict)
    operands: Kind = Kind.PATH
    first: Kind | None = None
    free: bool = False
    number_flag: bool = False
    subcommands: Mapping[str, "Rule"] = field(default_factory=dict)
    templates: tuple[tuple[str, ...], ...] | None = None
    extra: tuple[str, ...] = ()
    allow_none: bool = True


def _rule(flags: str = "", long: Iterable[str] = (), **further: object) -> Rule:
    return Rule(flags=frozenset((*flags, *long)), **further)  # type: ignore[arg-type]  # the fields of Rule


_NONE = Kind.NONE
_LISTED = {"-n": Kind.NUMBER, "--max-count": Kind.NUMBER}
_HISTORY = _rule(
    "p",
    ("--oneline", "--stat", "--shortstat", "--numstat", "--name-only", "--name-status", "--graph",
     "--decorate", "--all", "--no-merges", "--merges", "--patch", "--no-patch", "--reverse",
     "--first-parent", "--follow", "--no-color", "--abbrev-commit"),
    values={**_LISTED, "--since": Kind.TEXT, "--until": Kind.TEXT, "--author": Kind.TEXT,
            "--grep": Kind.TEXT},
    joined={"--format": Kind.TEXT, "--pretty": Kind.TEXT},
    number_flag=True,
)  # fmt: skip
_DIFF = _rule(
    "pw",
    ("--stat", "--shortstat", "--numstat", "--name-only", "--name-status", "--cached", "--staged",
     "--no-color", "--word-diff", "--check", "--patch", "--minimal"),
    values={"-U": Kind.NUMBER, "--unified": Kind.NUMBER},
)  # fmt: skip
GIT = {
    "status": _rule("sbu", ("--short", "--branch", "--porcelain", "--long")),
    "log": _HISTORY,
    "show": _HISTORY,
    "diff": _DIFF,
    "blame": _rule("lswe", values={"-L": Kind.TEXT}),
    "branch": _rule("arv", ("--list", "--all", "--show-current", "--verbose"), operands=_NONE),
    "tag": _rule("l", ("--list",), operands=_NONE),
    "ls-files": _rule("comd", ("--cached", "--others", "--modified", "--exclude-standard")),
    "rev-parse": _rule("", ("--short", "--abbrev-ref", "--verify"), operands=Kind.PATH),
    "shortlog": _rule("sne", operands=Kind.PATH),
    "describe": _rule("", ("--tags", "--always", "--dirty"), operands=Kind.PATH),
    "add": _rule("Auvn", ("--all", "--update", "--verbose", "--dry-run")),
    "commit": _rule(
        "avq", ("--all", "--quiet", "--allow-empty"),
        values={"-m": Kind.TEXT, "--message": Kind.TEXT},
    ),
}  # fmt: skip
_FREE = Rule(operands=Kind.TEXT, free=True)
_HEAD = _rule(
    "qv", ("--quiet", "--verbose"), number_flag=True,
    values={"-n": Kind.NUMBER, "--lines": Kind.NUMBER, "-c": Kind.NUMBER, "--bytes": Kind.NUMBER},
)  # fmt: skip
DEFAULT_RULES: dict[str, Rule] = {
    "cat": _rule("nbAETsv", ("--number", "--number-nonblank", "--show-all", "--squeeze-blank")),
    "date": _rule("uR", ("--utc", "--iso-8601"), operands=Kind.FORMAT),
    "echo": _FREE,
    "false": Rule(operands=_NONE),
    "git": Rule(subcommands=GIT, allow_none=False),
    "grep": _rule(
        "EFGHhiclLnoqrsvwx",
        ("--recursive", "--ignore-case", "--line-number", "--count", "--invert-match",
         "--word-regexp", "--fixed-strings", "--extended-regexp", "--files-with-matches",
         "--only-matching", "--no-messages"),
        values={"-e": Kind.TEXT, "--regexp": Kind.TEXT, "-m": Kind.NUMBER, "-A": Kind.NUMBER,
                "-B": Kind.NUMBER, "-C": Kind.NUMBER, "--max-count": Kind.NUMBER,
                "--include": Kind.TEXT, "--exclude": Kind.TEXT, "--exclude-dir": Kind.TEXT},
        first=Kind.TEXT,
        extra=("--exclude-dir=.git", "--devices=skip"),
    ),
    "head": _HEAD,
    "ls": _rule(
        "aAlhrtRS1dFp",
        ("--all", "--almost-all", "--human-readable", "--reverse", "--recursive", "--directory"),
    ),
    "printf": _FREE,
    "pwd": _rule("LP", operands=_NONE),
    "sleep": Rule(operands=Kind.NUMBER),
    "tail": _HEAD,
    "true": Rule(operands=_NONE),
    "uname": _rule("asrmno", ("--all",), operands=_NONE),
    "wc": _rule("lwcmL", ("--lines", "--words", "--bytes", "--chars")),
    "whoami": Rule(operands=_NONE),
}  # fmt: skip

SUGGESTIONS: tuple[tuple[str, str, str], ...] = (
    ("git status", "What changed and what is staged", "git"),
    ("git diff", "Changes that are not staged", "git"),
    ("git diff --staged", "Changes that are staged", "git"),
    ("git log --oneline -n 20", "The last twenty commits", "git"),
    ("git add .", "Stage all changes", "git"),
    ("git commit -m", "Commit what is staged, with a message", "git"),
    ("git branch -a", "All branches", "git"),
    ("git show --stat", "The last commit and its files", "git"),
    ("ls -la", "Files of this folder", "files"),
    ("cat README.md", "Show a file", "files"),
    ("head -n 20", "The beginning of a file", "files"),
    ("tail -n 20", "The end of a file", "files"),
    ("grep -rn", "Find a text in all files", "files"),
    ("wc -l", "Count lines", "files"),
    ("pwd", "This folder", "core"),
    ("date -u", "The time", "core"),
    ("whoami", "Who commands run as", "core"),
    ("uname -a", "The system they run on", "core"),
    ("npm test", "Run the tests of a package", "npm"),
    ("npm run build", "Build a package", "npm"),
    ("claude --version", "The version of Claude Code", "claude"),
)
"""Command, what it does, category; those whose program may not run are not shown."""


def with_templates(templates: Mapping[str, Iterable[Iterable[str]] | None]) -> dict[str, Rule]:
    """The default rules with an operator's changes: a program's templates of arguments, or None.

    In a template ``*`` stands for one word that is no option and, as a path, inside the working
    directory's root; ``**`` at the end for any number of such words. None takes a program away.
    """
    rules = dict(DEFAULT_RULES)
    for program, given in templates.items():
        if given is None:
            rules.pop(program, None)
        else:
            rules[program] = Rule(templates=tuple(tuple(words) for words in given))
    return rules
