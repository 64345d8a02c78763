"""What no command line may do, whoever allowed its program: a second line behind the allow-list.

Words are compared normalised, so that look-alikes and capitals change nothing; quotes are gone by
then. Programs that run other programs are looked behind.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

from resolvers.command_lines import normalise


class CommandIssue(StrEnum):
    """What is wrong with a command line."""

    FORMAT = "FORMAT"
    SHELL = "SHELL"
    NOT_ALLOWED = "NOT_ALLOWED"
    ARGUMENT = "ARGUMENT"
    PATH = "PATH"
    DESTRUCTION = "DESTRUCTION"
    PRIVILEGE = "PRIVILEGE"
    SYSTEM = "SYSTEM"
    CODE = "CODE"
    SECRETS = "SECRETS"
    NETWORK = "NETWORK"
    RESOURCES = "RESOURCES"
    TERMINAL = "TERMINAL"


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong, in words, with what to do instead where there is something."""

    code: CommandIssue
    message: str
    alternatives: tuple[str, ...] = ()


_I = CommandIssue


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WRAPPERS = _words("""
    env nohup timeout nice ionice stdbuf setsid xargs parallel busybox toybox time command exec
    builtin chroot unshare nsenter watch script strace ltrace gdb flock chrt taskset sudo doas su
    pkexec runuser setpriv start-stop-daemon systemd-run catchsegv ld.so rlwrap faketime
    proxychains
""")
_SHELLS = _words("sh bash dash zsh ksh mksh ash fish csh tcsh rbash pwsh")
_INLINE = {
    "python": "c", "perl": "e", "ruby": "e", "node": "ep", "nodejs": "ep", "php": "r", "lua": "e",
    "tclsh": "c", "deno": "", "bun": "e",
}  # fmt: skip
"""Interpreters and the letters of their options that run code from the command line."""
_PRIVILEGE = _words("""
    sudo su doas pkexec visudo passwd chpasswd useradd userdel usermod groupadd groupdel adduser
    deluser setcap setfacl newgrp
""")
_SYSTEM = _words("""
    shutdown reboot halt poweroff telinit pkill killall killall5 iptables ip6tables nft mount
    umount insmod rmmod modprobe crontab at systemctl service swapoff kexec
""")
_DESTROYERS = _words("fdisk parted sfdisk cfdisk wipefs shred blkdiscard mkswap debugfs")
_SECRET = re.compile(
    r"(?:^|/)etc/(?:shadow|passwd|sudoers|gshadow)|(?:^|/)\.(?:ssh|gnupg|aws|kube|docker|netrc|npmrc|"
    r"pypirc|git-credentials)(?:/|$)|(?:^|[/:])\.env(?:\.[\w.-]+)?$|(?:^|/)proc/[^/]+/environ|"
    r"(?:^|/)\.(?:bash|zsh|python|node_repl|psql|mysql)_history$|(?:^|/)id_(?:rsa|ed25519|ecdsa|dsa)$"
)
_ESCAPE = re.compile(r"\\(?:x1b|033|e|u001b|u\{1b\})\s*\[?", re.IGNORECASE)
_DEVICE = re.compile(r"^(?:of=)?/(?:dev/(?!null$|stdout$|stderr$|zero$)|proc/|sys/)")
_RUNS_NEXT = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def find_dangers(words: Sequence[str]) -> list[Issue]:
    """Everything that is dangerous about a command, whatever may run.

    Behind a program that runs other programs, every later word is taken for one: options of such
    programs cannot be told from what they run without knowing each of them.
    """
    names = [PurePosixPath(normalise(word)).name for word in words]
    arguments = [normalise(word) for word in words]
    found: list[Issue] = []
    behind = True
    for index, name in enumerate(names):
        if behind:
            for check in _CHECKS:
                found += check(name, arguments[index + 1 :])
        behind = (behind and index > 0) or name in _WRAPPERS or arguments[index] in _RUNS_NEXT
    return list(dict.fromkeys(found))


def _letters(arguments: Sequence[str]) -> set[str]:
    return {c for word in arguments if re.match(r"-[^-]", word) for c in word[1:]}


def _runs_code(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    if program in _WRAPPERS:
        yield Issue(_I.CODE, f"{program} runs another program; give that one itself")
    if program in {"eval", "source", "."}:
        yield Issue(_I.CODE, f"{program} runs text as commands")
    if program in _SHELLS and (
        "c" in _letters(arguments) or not arguments or "s" in _letters(arguments)
    ):
        yield Issue(_I.CODE, "A shell would run text as commands", ("Put it into a script file",))
    base = re.sub(r"[\d.]+$", "", program)
    if base in _INLINE and _letters(arguments) & set(normalise(_INLINE[base])):
        yield Issue(_I.CODE, f"{program} would run code from the command line")
    if any(word in {"--eval", "--print", "--command"} for word in arguments) and base in _INLINE:
        yield Issue(_I.CODE, f"{program} would run code from the command line")
    if base in {"awk", "gawk", "mawk", "nawk"} and any(
        "system(" in w or "|" in w for w in arguments
    ):
        yield Issue(_I.CODE, "awk would run programs")
    if program == "find" and any(w in {"-exec", "-execdir", "-ok", "-okdir"} for w in arguments):
        yield Issue(_I.CODE, "find would run programs")
    if program == "git" and _has_git_code(arguments):
        yield Issue(_I.CODE, "git would run programs that its arguments name")
    if program in {"tar", "rsync", "ssh", "scp", "vim", "vi", "ed", "less", "more", "man"} and any(
        re.match(r"--?(?:to-command|checkpoint-action|use-compress|i$|rsh|e$|oproxycommand|c$)", w)
        for w in arguments
    ):
        yield Issue(_I.CODE, f"{program} would run programs that its arguments name")


_GIT_CODE = re.compile(
    r"-c.*|--config-env.*|--exec-path.*|--upload-pack.*|--receive-pack.*|-u.+|--exec=.*|"
    r"--ext-diff|--textconv|-o.*|--open-files-in-pager.*|--output.*|--no-index|--git-dir.*|"
    r"--work-tree.*|-p|--paginate|--template.*|--super-prefix.*|--attr-source.*"
)


def _has_git_code(arguments: Sequence[str]) -> bool:
    """Options in front of the subcommand, and those of subcommands that name programs or files."""
    for word in arguments:
        if not word.startswith("-"):
            break
        if _GIT_CODE.fullmatch(word) or word.startswith("-c"):
            return True
    named = ("--upload-pack", "--receive-pack", "--exec", "--ext-diff", "--textconv", "--output",
             "--open-files-in-pager", "--no-index", "--template")  # fmt: skip
    return any(word.startswith(named) for word in arguments) or any(
        re.match(r"(?:ext|fd)::", word) for word in arguments
    )


def _destroys(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    targets = [word for word in arguments if not word.startswith("-")]
    if program in {"rm", "rmdir", "unlink"}:
        letters = _letters(arguments)
        forced = letters & set("rf") or {"--recursive", "--force"} & set(arguments)
        wide = any(
            t.startswith(("/", "~")) or t in {".", "..", "*", "./", "./*"} or ".." in t.split("/")
            for t in targets
        )
        if forced or wide:
            yield Issue(_I.DESTRUCTION, "It deletes without asking", ("git clean -n", "rm -i"))
            yield Issue(_I.DESTRUCTION, f"It would hit {', '.join(targets)[:200] or 'everything'}")
    if program in _DESTROYERS or program.startswith("mkfs"):
        yield Issue(_I.DESTRUCTION, f"{program} destroys what is on a disk", ("ls -l",))
        yield Issue(_I.DESTRUCTION, f"It would hit {', '.join(targets)[:200] or 'a disk'}")
    if program == "find" and "-delete" in arguments:
        yield Issue(_I.DESTRUCTION, "find would delete what it finds", ("find without -delete",))
    if program in {"dd", "tee", "truncate", "cp", "mv", "cat"} and any(
        _DEVICE.match(word) for word in arguments
    ):
        yield Issue(_I.DESTRUCTION, "It reads or writes a device", ("Use a file",))
    if program == "git":
        yield from _git_destroys(arguments)


def _git_destroys(arguments: Sequence[str]) -> Iterator[Issue]:
    given = set(arguments)
    letters = _letters(arguments)
    if "clean" in given and ("f" in letters or "--force" in given):
        yield Issue(_I.DESTRUCTION, "It deletes files that git does not know", ("git clean -n",))
    if "reset" in given and "--hard" in given:
        yield Issue(_I.DESTRUCTION, "It throws changes away", ("git stash", "git reset --soft"))
    if "push" in given and (letters & {"f"} or any(w.startswith("--force") for w in given)):
        yield Issue(_I.DESTRUCTION, "It overwrites commits of others", ("git push",))


def _takes_rights(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    if program in _PRIVILEGE:
        yield Issue(_I.PRIVILEGE, f"{program} changes who may do what")
    if program == "chmod" and any(
        re.fullmatch(r"[0-7]*777|[4-7][0-7]{3}|[ugoa]*[+=][rwxt]*s[rwxt]*", w) for w in arguments
    ):
        yield Issue(_I.PRIVILEGE, "It opens files to everybody, or lends their owner's rights")
    if program in {"chmod", "chown", "chgrp"} and (
        "r" in _letters(arguments) or "--recursive" in arguments
    ):
        yield Issue(_I.PRIVILEGE, f"{program} of a whole tree")
    if program == "chown" and any(re.match(r"(?:root|0)(?::|$)", w) for w in arguments):
        yield Issue(_I.PRIVILEGE, "It gives files to root")


def _changes_system(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    if program in _SYSTEM or (program == "init" and {"0", "6"} & set(arguments)):
        yield Issue(_I.SYSTEM, f"{program} changes the state of the machine")
    if program == "kill" and "-1" in arguments:
        yield Issue(_I.SYSTEM, "It ends processes of others")
    if program == "sysctl" and ("w" in _letters(arguments) or any("=" in w for w in arguments)):
        yield Issue(_I.SYSTEM, "It changes settings of the kernel")


def _reads_secrets(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    for word in arguments:
        for part in (word, *word.split("=")[1:]):
            if _SECRET.search(part.replace("//", "/")):
                yield Issue(_I.SECRETS, "It names a file that holds secrets")
    if program == "printenv" or (program in {"env", "set", "export"} and not arguments):
        yield Issue(_I.SECRETS, "It shows the environment")


def _opens_network(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    letters = _letters(arguments)
    listens = (
        (program in {"nc", "ncat", "netcat"} and ("l" in letters or "e" in letters))
        or (program == "socat" and any("listen" in w or "exec" in w for w in arguments))
        or any(w == "http.server" or w.startswith(("/dev/tcp", "/dev/udp")) for w in arguments)
    )
    if listens:
        yield Issue(_I.NETWORK, "It opens a way in from the network")
    if program == "ssh" and letters & set("rdl"):
        yield Issue(_I.NETWORK, "It opens a tunnel")


def _takes_resources(program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    if program == "yes" or (program == "dd" and not any(w.startswith("count=") for w in arguments)):
        yield Issue(_I.RESOURCES, f"{program} would never end")


def _speaks_to_terminal(_program: str, arguments: Sequence[str]) -> Iterator[Issue]:
    if any(_ESCAPE.search(word) for word in arguments):
        yield Issue(_I.TERMINAL, "It writes control sequences of terminals")


_CHECKS: tuple[Callable[[str, Sequence[str]], Iterator[Issue]], ...] = (
    _runs_code,
    _destroys,
    _takes_rights,
    _changes_system,
    _reads_secrets,
    _opens_network,
    _takes_resources,
    _speaks_to_terminal,
)
_FORK_BOMB = re.compile(r"(\S{1,20})\s{0,3}\(\s{0,3}\)\s{0,3}\{.*\1\s{0,3}\|\s{0,3}\1", re.DOTALL)
_BOMB_LENGTH = 512
_PIPED = re.compile(
    r"\b(?:curl|wget|fetch|base64)\b.*(?:\||<\()\s*(?:\S*/)?(?:ba|da|z|k)?sh\b|"
    r"(?:ba|da|z|k)?sh\s+<\(|(?:eval|sh\s+-c)\s.*(?:curl|wget)\b|"
    r"\|\s*(?:\S*/)?(?:python|perl|ruby|node)[\d.]*\b"
)


def find_dangers_of_text(line: str) -> list[Issue]:
    """Dangers of a line that only shows in a shell's features, which are not there anyway."""
    text = normalise(line)
    found = []
    if _PIPED.search(text):
        found.append(Issue(_I.CODE, "It runs what it fetches", ("Fetch, read, then run",)))
    if "|" in text and _FORK_BOMB.search(text[:_BOMB_LENGTH]):
        found.append(Issue(_I.RESOURCES, "It starts itself over and over"))
    if re.search(r"\bwhile\s+(?:true|:|1)\b|\bfor\s*\(\(\s*;\s*;", text):
        found.append(Issue(_I.RESOURCES, "It would never end"))
    for segment in re.split(r"[|&;]+", text):
        words = segment.replace("'", "").replace('"', "").replace("\\", "").split()
        found += find_dangers(words)
    if re.search(r">\s*/(?:dev/(?!null)|proc/|sys/|etc/)", text):
        found.append(Issue(_I.DESTRUCTION, "It writes to the system", ("Write to a file",)))
    return list(dict.fromkeys(found))
