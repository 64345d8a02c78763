"""Whether a command line may run, and as which argument list: one answer for all who ask.

The boundary is the allow-list of programs and arguments (``command_rules``), no shell, and paths
that stay inside; ``command_dangers`` is a second line behind it. See docs/operator.md.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from resolvers.command_dangers import CommandIssue, Issue, find_dangers, find_dangers_of_text
from resolvers.command_lines import UnreadableLineError, split_line
from resolvers.command_rules import DEFAULT_RULES, SUGGESTIONS, Kind, Rule

_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,9})?[A-Za-z]{0,3}")
_NUMBER_FLAG = re.compile(r"-\d{1,9}")
_PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
_PATH_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class CommandPolicy:
    """What an operator lets holders of ``execute`` run; times are seconds, sizes bytes.

    ``path`` is where programs are looked for, in absolute folders; the server's own PATH is not.
    """

    enabled: bool = True
    rules: Mapping[str, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    path: str = "/usr/local/bin:/usr/bin:/bin"
    default_seconds: int = 300
    max_seconds: int = 3_600
    concurrent: int = 5
    concurrent_per_user: int = 2
    output_bytes: int = 10 << 20
    history: int = 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a command line may run, why not, and what else one might do.

    ``safe`` is None where it was not asked. ``argv`` is what would be started; empty where the
    line may not run.
    """

    argv: tuple[str, ...]
    issues: tuple[Issue, ...]
    safe: bool | None

    @property
    def allowed(self) -> bool:
        """Whether it may run."""
        return not self.issues

    @property
    def dangerous(self) -> bool:
        """Whether it is refused as dangerous, not only as not permitted."""
        return any(issue.code in _DANGEROUS for issue in self.issues)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """What one might do instead."""
        return tuple(dict.fromkeys(a for issue in self.issues for a in issue.alternatives))


_DANGEROUS = frozenset(CommandIssue) - {
    CommandIssue.FORMAT,
    CommandIssue.SHELL,
    CommandIssue.NOT_ALLOWED,
    CommandIssue.ARGUMENT,
}


def judge(
    policy: CommandPolicy, line: str, *, root: Path, folder: Path, check_safety: bool = True
) -> Verdict:
    """Whether a line may run in a folder; reads the disk only to follow links.

    Args:
        policy: the operator's.
        line: as somebody wrote it.
        root: what it may reach, resolved.
        folder: where it is to run, resolved and inside the root.
        check_safety: whether dangers are looked for; what may run is refused for them in any case.
    """
    dangers = find_dangers_of_text(line) if check_safety else []
    try:
        split = split_line(line)
    except UnreadableLineError as error:
        return _refused(
            [Issue(CommandIssue.FORMAT, str(error)), *dangers], dangers, checked=check_safety
        )
    if check_safety:
        dangers = list(dict.fromkeys([*dangers, *find_dangers(split.words)]))
    if split.features:
        text = f"There is no shell: {', '.join(split.features)} are not available"
        issue = Issue(CommandIssue.SHELL, text, ("Quote it with ' if it is meant as it stands",))
        return _refused([issue, *dangers], dangers, checked=check_safety)
    program, *arguments = split.words
    reader = _Reader(root, folder)
    argv, problems = _permitted(policy, reader, program, arguments)
    issues = [*problems, *dangers]
    return Verdict(
        argv=() if issues else argv,
        issues=tuple(issues),
        safe=not dangers and not _unsafe(problems) if check_safety else None,
    )


def _refused(issues: list[Issue], dangers: list[Issue], *, checked: bool) -> Verdict:
    return Verdict((), tuple(issues), not dangers if checked else None)


def _unsafe(problems: list[Issue]) -> bool:
    return any(issue.code is CommandIssue.PATH for issue in problems)


def _permitted(
    policy: CommandPolicy, reader: "_Reader", program: str, arguments: list[str]
) -> tuple[tuple[str, ...], list[Issue]]:
    if not policy.enabled:
        return (), [Issue(CommandIssue.NOT_ALLOWED, "Commands are switched off on this server")]
    if "/" in program:
        return (), [
            Issue(
                CommandIssue.NOT_ALLOWED, "A program is named without a path", (Path(program).name,)
            )
        ]
    rule = policy.rules.get(program) if _PROGRAM.fullmatch(program) else None
    if rule is None:
        known = ", ".join(sorted(policy.rules)) or "none"
        return (), [Issue(CommandIssue.NOT_ALLOWED, f"Only these programs may run: {known}")]
    if rule.templates is not None:
        return (program, *arguments), list(_against_templates(rule, reader, program, arguments))
    head: tuple[str, ...] = (program,)
    if rule.subcommands:
        name = arguments[0] if arguments else ""
        found = rule.subcommands.get(name)
        if found is None:
            known = ", ".join(sorted(rule.subcommands))
            text = f"{program} may only be asked for: {known}"
            return (), [Issue(CommandIssue.ARGUMENT, text)]
        rule, arguments, head = found, arguments[1:], (program, name)
    problems = list(_against_rule(rule, reader, " ".join(head), arguments))
    return (*head, *rule.extra, *arguments), problems


def _against_rule(
    rule: Rule, reader: "_Reader", name: str, arguments: list[str]
) -> Iterator[Issue]:
    if rule.free:
        return
    words = iter(arguments)
    operands = 0
    only_operands = False
    pattern_given = False
    for word in words:
        if not only_operands and word == "--":
            only_operands = True
        elif not only_operands and len(word) > 1 and word.startswith("-"):
            option, kind, value = _option(rule, word)
            if option is None:
                yield Issue(CommandIssue.ARGUMENT, f"{name} may not have the option {word[:50]}")
                continue
            pattern_given = pattern_given or option in {"-e", "--regexp"}
            if kind is not None:
                value = value if value is not None else next(words, None)
                yield from reader.check(kind, value, f"{name} {option}")
        else:
            first = rule.first is not None and operands == 0 and not pattern_given
            kind = rule.first if first else rule.operands
            operands += 1
            yield from reader.check(kind or Kind.TEXT, word, name)


def _option(rule: Rule, word: str) -> tuple[str | None, Kind | None, str | None]:
    """The option in a word, what its value is (None: it takes none), and the value in the word.

    The option is None where a part of the word is not allowed.
    """
    if rule.number_flag and _NUMBER_FLAG.fullmatch(word):
        return word, None, None
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        if name in rule.values:
            return name, rule.values[name], value if equals else None
        if name in rule.joined:
            return name, rule.joined[name] if equals else None, value
        return (name, None, None) if name in rule.flags and not equals else (None, None, None)
    for index, letter in enumerate(word[1:], start=1):
        if (kind := rule.values.get(f"-{letter}")) is not None:
            return f"-{letter}", kind, word[index + 1 :] or None
        if letter not in rule.flags:
            return None, None, None
    return word, None, None


def _against_templates(
    rule: Rule, reader: "_Reader", name: str, arguments: list[str]
) -> Iterator[Issue]:
    """An operator's templates: one of them has to fit, and open words have to be harmless."""
    for template in rule.templates or ():
        filled = _fill(template, arguments)
        if filled is not None:
            for word in filled:
                yield from reader.check(Kind.PATH, word, name)
            return
    shown = "; ".join(" ".join((name, *template)) for template in rule.templates or ((),))
    yield Issue(CommandIssue.ARGUMENT, f"{name} may only run as: {shown}")


def _fill(template: tuple[str, ...], arguments: list[str]) -> list[str] | None:
    """The words that stand for the template's stars; None where it does not fit."""
    fixed = template[:-1] if template[-1:] == ("**",) else template
    rest = arguments[len(fixed) :]
    if len(arguments) < len(fixed) or (rest and fixed == template):
        return None
    open_words = list(rest)
    for wanted, word in zip(fixed, arguments, strict=False):
        if wanted == "*":
            open_words.append(word)
        elif wanted != word:
            return None
    return None if any(word.startswith("-") for word in open_words) else open_words


@dataclass(frozen=True, slots=True)
class _Reader:
    """Judges single arguments; paths are followed from the folder and have to stay in the root."""

    root: Path
    folder: Path

    def check(self, kind: Kind, value: str | None, name: str) -> Iterator[Issue]:
        """What is wrong with a value."""
        if value is None:
            yield Issue(CommandIssue.ARGUMENT, f"{name} lacks its value")
        elif kind is Kind.NONE:
            yield Issue(CommandIssue.ARGUMENT, f"{name} takes no further words")
        elif kind is Kind.FORMAT and not value.startswith("+"):
            yield Issue(CommandIssue.ARGUMENT, f"{name} takes only a format that begins with +")
        elif kind is Kind.NUMBER and not _NUMBER.fullmatch(value):
            yield Issue(CommandIssue.ARGUMENT, f"{name} takes a number, not {value[:50]}")
        elif kind is Kind.PATH and (problem := find_path_problem(self.root, self.folder, value)):
            yield Issue(CommandIssue.PATH, problem)


def find_path_problem(root: Path, folder: Path, path: str) -> str | None:
    """Why a path may not be named: it leads out of the root, also by links, or into ``.git``."""
    if len(path.encode(errors="replace")) > _PATH_BYTES:
        return "A path is too long"
    try:
        real = Path(os.path.realpath(folder / path))
    except (OSError, ValueError):
        return f"{path[:100]} leads nowhere"
    if not real.is_relative_to(root):
        return f"{path[:100]} leads out of the workspace's folder"
    if any(
        part.casefold() == ".git" for part in (*real.relative_to(root).parts, *Path(path).parts)
    ):
        return "The repository's own folder is not for commands"
    return None


def suggestions(
    policy: CommandPolicy,
    *,
    category: str | None = None,
    prefix: str | None = None,
    query: str | None = None,
) -> list[tuple[str, str, str]]:
    """Commands one might run, with what each does and its category, of programs that may run."""
    wanted, words = (prefix or "").casefold(), (query or "").casefold()
    return [
        (command, description, group)
        for command, description, group in SUGGESTIONS
        if policy.enabled
        and command.split()[0] in policy.rules
        and category in {None, group}
        and command.casefold().startswith(wanted)
        and (words in command.casefold() or words in description.casefold())
    ]
