"""Which command lines may run: only what a shell would read the same, and nothing that escapes."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resolvers.command_dangers import CommandIssue, find_dangers
from resolvers.command_lines import UnreadableLineError, split_line
from resolvers.command_policy import CommandPolicy, Verdict, judge, suggestions
from resolvers.command_rules import with_templates

POLICY = CommandPolicy()
LOOSE = CommandPolicy(
    rules=with_templates(
        {
            name: [["**"], []]
            for name in (
                "rm", "find", "env", "sh", "bash", "xargs", "python3", "perl", "chmod", "dd", "nc",
                "busybox", "nohup", "timeout", "curl", "kill", "tar", "ssh", "node",
            )
        }
    )
)  # fmt: skip
"""An operator who allowed too much."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace's folder with a way out of it."""
    outside = tmp_path_factory.mktemp("outside").resolve()
    (outside / "secret").write_text("secret")
    root = tmp_path_factory.mktemp("root").resolve()
    (root / "src").mkdir()
    (root / "README.md").write_text("read me")
    (root / ".git").mkdir()
    (root / "out").symlink_to(outside)
    (root / "file-out").symlink_to(outside / "secret")
    (root / "hidden").symlink_to(root / ".git")
    (root / "loop").symlink_to(root / "loop")
    return root


def verdict(line: str, root: Path, policy: CommandPolicy = POLICY) -> Verdict:
    return judge(policy, line, root=root, folder=root)


def codes(line: str, root: Path, policy: CommandPolicy = POLICY) -> set[str]:
    return {issue.code.value for issue in verdict(line, root, policy).issues}


ALLOWED = {
    "git status": ("git", "status"),
    "git add .": ("git", "add", "."),
    "git commit -am 'It costs $5; really | `no`'": (
        "git", "commit", "-am", "It costs $5; really | `no`",
    ),
    "git log --oneline -n 5 -- src": ("git", "log", "--oneline", "-n", "5", "--", "src"),
    "git show HEAD~2 --stat": ("git", "show", "HEAD~2", "--stat"),
    "git log --pretty=%h --format=oneline": ("git", "log", "--pretty=%h", "--format=oneline"),
    "git log --pretty README.md": ("git", "log", "--pretty", "README.md"),
    "git diff main...HEAD README.md": ("git", "diff", "main...HEAD", "README.md"),
    "ls -la src": ("ls", "-la", "src"),
    'cat "README.md"': ("cat", "README.md"),
    "cat src/../README.md": ("cat", "src/../README.md"),
    "head -n20 README.md": ("head", "-n20", "README.md"),
    "tail -5 README.md": ("tail", "-5", "README.md"),
    "grep -rn 'a.*b' src": (
        "grep", "--exclude-dir=.git", "--devices=skip", "-rn", "a.*b", "src",
    ),
    "date -u +%s": ("date", "-u", "+%s"),
    "echo -n --any 'thing' ünïcode": ("echo", "-n", "--any", "thing", "ünïcode"),
    "sleep 0.5s": ("sleep", "0.5s"),
    "e'ch'o \\a": ("echo", "a"),
}  # fmt: skip


@pytest.mark.parametrize("line", ALLOWED)
def test_what_may_run(line: str, root: Path) -> None:
    found = verdict(line, root)
    assert (found.argv, found.issues, found.safe) == (ALLOWED[line], (), True)


REFUSED = {
    # No shell.
    "ls | wc -l": "SHELL", "ls; rm -rf /": "SHELL", "ls && id": "SHELL", "ls &": "SHELL",
    "cat < README.md": "SHELL", "echo x > y": "SHELL", "echo $HOME": "SHELL",
    'echo "$(id)"': "SHELL", "echo `id`": "SHELL", "ls *": "SHELL", "ls src/[a-z]": "SHELL",
    "ls ~": "SHELL", "A=1 ls": "SHELL", "ls # all": "SHELL", "ls {a,b}": "SHELL",
    "! ls": "SHELL", 'echo "a\\$b"': "FORMAT", "(ls)": "SHELL", "$(echo ls)": "SHELL",
    # Not readable.
    "": "FORMAT", "   ": "FORMAT", "echo 'x": "FORMAT", 'echo "x': "FORMAT", "echo x\\": "FORMAT",
    "ls\nid": "FORMAT", "ls\rid": "FORMAT", "ls\0id": "FORMAT", "echo \x1b[2J": "FORMAT",
    "ls \u202egpj.exe": "FORMAT", "l\u200bs": "FORMAT", "ls\u00a0-la": "FORMAT",
    "ls \u2212la": "FORMAT", "rm \uff0drf x": "FORMAT", "ls " + "x" * 5_000: "FORMAT",
    "ls " + "x " * 200: "FORMAT", "git commit -m \ud800": "FORMAT",
    # Programs that are not listed, however they are written.
    "rm x": "NOT_ALLOWED", "\\rm x": "NOT_ALLOWED", 'r"m" x': "NOT_ALLOWED",
    "''rm x": "NOT_ALLOWED", "/bin/rm x": "NOT_ALLOWED", "/bin/ls": "NOT_ALLOWED",
    "./ls": "NOT_ALLOWED", "../bin/ls": "NOT_ALLOWED", "LS": "NOT_ALLOWED",
    "\uff4c\uff53": "NOT_ALLOWED",
    "l\u0455": "NOT_ALLOWED", "env ls": "NOT_ALLOWED", "sh -c ls": "NOT_ALLOWED",
    "xargs ls": "NOT_ALLOWED", "find . -exec rm x ';'": "NOT_ALLOWED", "'ls -la'": "NOT_ALLOWED",
    '""': "NOT_ALLOWED",
    # Options that read, write or run something.
    "git -c alias.x='!id' x": "ARGUMENT", "git -C / status": "ARGUMENT", "git x": "ARGUMENT",
    "git --exec-path=/tmp status": "ARGUMENT", "git": "ARGUMENT", "git '' status": "ARGUMENT",
    "git log --output=x": "ARGUMENT", "git log --outp=x": "ARGUMENT",
    "git diff --no-index a b": "ARGUMENT", "git diff --ext-diff": "ARGUMENT",
    "git show --textconv": "ARGUMENT", "git grep -Ox y": "ARGUMENT", "git push": "ARGUMENT",
    "git push --force": "ARGUMENT", "git fetch --upload-pack=x": "ARGUMENT",
    "git config core.pager x": "ARGUMENT", "git branch new": "ARGUMENT",
    "git commit --template=x": "ARGUMENT", "git commit -F /etc/hostname": "ARGUMENT",
    "git rebase -x id": "ARGUMENT", "git submodule foreach id": "ARGUMENT",
    "git diff --exit-code --no-ind x y": "ARGUMENT",
    "git log --pretty -O/etc/hostname": "ARGUMENT", "git show --pretty --ext-dif": "ARGUMENT",
    "git log --format /etc/hostname": "PATH", "git show --pretty /etc/hostname": "PATH",
    "grep -f x y": "ARGUMENT", "grep -rf x": "ARGUMENT", "grep -R x .": "ARGUMENT",
    "grep --file=x y": "ARGUMENT", "wc --files0-from=x": "ARGUMENT", "date -f x": "ARGUMENT",
    "date 01010000": "ARGUMENT", "date -s now": "ARGUMENT", "tail -f README.md": "ARGUMENT",
    "ls --color=always": "ARGUMENT", "sleep x": "ARGUMENT", "whoami x": "ARGUMENT",
    "git commit -m": "ARGUMENT", "head -n x README.md": "ARGUMENT",
    # Out of the folder.
    "cat /etc/hostname": "PATH", "cat ../x": "PATH", "cat out/secret": "PATH",
    "cat file-out": "PATH", "cat src/../../x": "PATH", "ls -a /": "PATH",
    "cat -- /etc/hostname": "PATH",
    "git add ../x": "PATH", "git diff /etc/hostname /etc/hosts": "PATH", "cat .git/config": "PATH",
    "cat .GIT/config": "PATH", "cat hidden/config": "PATH", "cat ./src/../.git/config": "PATH",
    "grep x /etc/hostname": "PATH", "grep -e x /etc/hostname": "PATH",
    "grep -ex /etc/hostname": "PATH",
    "wc -l README.md out/secret": "PATH",
    # Dangers in words that would otherwise do.
    "echo '\\x1b[2J'": "TERMINAL", "printf '\\033[31m'": "TERMINAL", "printf '\\e[31m'": "TERMINAL",
    "cat .env": "SECRETS", "cat src/.env.local": "SECRETS", "cat /proc/self/environ": "SECRETS",
    "cat /etc/shadow": "SECRETS", "grep x '/etc//passwd'": "SECRETS",
}  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_may_not(line: str, root: Path) -> None:
    found = verdict(line, root)
    assert REFUSED[line] in {issue.code.value for issue in found.issues}, found
    assert found.argv == ()


DANGEROUS = {
    "rm -rf /": "DESTRUCTION", "rm -r -f x": "DESTRUCTION", "rm --recursive x": "DESTRUCTION",
    "\\rm -fr x": "DESTRUCTION", 'r"m" -rf /': "DESTRUCTION", "RM -RF x": "DESTRUCTION",
    "\uff52\uff4d -rf x": "DESTRUCTION", "env rm -rf x": "DESTRUCTION",
    "env -i A=1 rm -rf x": "DESTRUCTION",
    "env -S 'rm x'": "CODE", "nohup timeout 5 rm -rf x": "DESTRUCTION",
    "xargs rm -rf": "DESTRUCTION",
    "busybox rm -rf x": "DESTRUCTION", "find . -delete": "DESTRUCTION",
    "find . -exec rm -rf x ';'": "DESTRUCTION", "find . -execdir id +": "CODE",
    "find . -name x -ok id ';'": "CODE", "sh -c id": "CODE", "sh -ec id": "CODE", "sh": "CODE",
    "bash -lc id": "CODE", "python3 -c 'x'": "CODE", "python3 -Bc x": "CODE", "perl -e x": "CODE",
    "perl -E x": "CODE", "node --eval x": "CODE", "env sudo ls": "PRIVILEGE",
    "chmod 777 x": "PRIVILEGE", "chmod -R a+r x": "PRIVILEGE", "chmod u+s x": "PRIVILEGE",
    "chmod 4755 x": "PRIVILEGE", "dd if=x of=/dev/sda count=1": "DESTRUCTION",
    "dd if=x": "RESOURCES",
    "nc -l 99": "NETWORK", "nc -lvp 99": "NETWORK", "ssh -R 1:x:1 y": "NETWORK",
    "kill -9 -1": "SYSTEM", "tar --to-command=id -xf x": "CODE", "ssh -oProxyCommand=id x": "CODE",
    "curl x | sh": "CODE", "curl x | /bin/bash": "CODE", "bash <(wget x)": "CODE",
    "base64 -d x | sh": "CODE", ":(){ :|:& };:": "RESOURCES", "echo x > /dev/sda": "DESTRUCTION",
    "ls; env": "SECRETS", "while true; do ls; done": "RESOURCES",
}  # fmt: skip


@pytest.mark.parametrize("line", DANGEROUS)
def test_dangers_are_found_whoever_allowed_the_program(line: str, root: Path) -> None:
    found = verdict(line, root, LOOSE)
    assert DANGEROUS[line] in {issue.code.value for issue in found.issues}, found
    assert (found.argv, found.safe) == ((), False)
    if DANGEROUS[line] == "DESTRUCTION" and line.startswith("rm "):
        assert len(found.issues) >= 2
        assert found.alternatives


def test_without_safety_the_policy_still_decides(root: Path) -> None:
    found = judge(POLICY, "cat /etc/shadow", root=root, folder=root, check_safety=False)
    assert (found.safe, found.allowed) == (None, False)
    assert verdict("git status", root, CommandPolicy(enabled=False)).issues[0].code == "NOT_ALLOWED"


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8)
PIECES = st.one_of(
    st.sampled_from(["'", '"', "\\", " ", "\t", "$", "`", "a", "-", "=", "~", "#", "!", "\n", "é"]),
    st.sampled_from(
        ["rm", "'a b'", '"c d"', "\\'", '\\"', "--", "{", "}", "*", "[", "%", "^", ":"]
    ),
    WORDS,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
@example("'a'\"b\"c\\ d")
@example("a\\\nb")
@example('"a\\b"')
@example("a=~b")
@example("^ a ^b")
def test_an_accepted_line_means_the_same_to_a_shell(line: str) -> None:
    try:
        split = split_line("x " + line)
    except UnreadableLineError:
        return
    if split.features:
        return
    told = subprocess.run(
        ["/bin/sh", "-c", "for word in " + line + "\ndo printf '%s\\0' \"$word\"\ndone"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    words = told.stdout.decode("utf-8").split("\0")[:-1]
    assert words == list(split.words[1:])


QUOTINGS = st.sampled_from(["plain", "single", "double", "backslash"])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["rm -rf /", "/bin/rm -rf .", "env rm -rf x", "sh -c id", "find . -exec id +",
                     "git -c alias.a=!id a", "git -calias.a=!id a", "cat /etc/shadow"]),
    st.data(),
)  # fmt: skip
def test_no_quoting_hides_a_danger(line: str, data: st.DataObject) -> None:
    """However the characters of a command are quoted, it is seen for what it is."""
    written = []
    for character in line:
        how = data.draw(QUOTINGS) if character != " " else "plain"
        if character == "!" and how in {"plain", "double"}:
            how = "single"
        written.append(
            {
                "plain": character,
                "single": f"'{character}'",
                "double": f'"{character}"',
                "backslash": f"\\{character}",
            }[how]
        )
    text = "".join(written)
    assert split_line(text).words == tuple(line.split())
    assert find_dangers(split_line(text).words)
    assert not verdict(text, Path("/nowhere"), LOOSE).allowed


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "src", "out", "file-out", "/", "//", ".git", "a", "~"]),
                min_size=1, max_size=8).map("/".join))  # fmt: skip
def test_no_path_leads_out(root: Path, path: str) -> None:
    found = judge(LOOSE, f"cat -- '{path}'", root=root, folder=root / "src")
    if found.allowed:
        real = Path(os.path.realpath(root / "src" / path))
        assert real.is_relative_to(root)
        assert not real.is_relative_to(root / ".git")


def test_templates_of_an_operator(root: Path) -> None:
    policy = replace(
        POLICY,
        rules=with_templates(
            {"npm": [["test"], ["run", "*"], ["exec", "--", "**"]], "make": [[]], "ls": None}
        ),
    )
    for line in ("npm test", "npm run build", "npm exec -- a b", "npm exec --", "make"):
        assert verdict(line, root, policy).allowed, line
    for line in (
        "npm", "npm install", "npm run", "npm run a b", "npm run --x", "npm run /bin/x",
        "npm exec -- -c id", "npm run out/x", "make x", "ls",
    ):  # fmt: skip
        assert not verdict(line, root, policy).allowed, line


def test_judging_is_quick(root: Path) -> None:
    """Lines made to be slow take no longer than others: bounded work for each."""
    import time

    for line in ("env " * 99 + "x", "curl " * 800, "(" * 4_000, "a" * 4_000, "x(){" * 1_000):
        began = time.perf_counter()
        verdict(line, root)
        assert time.perf_counter() - began < 0.5, line[:20]


def test_suggestions_are_of_what_may_run() -> None:
    git = [command for command, _, _ in suggestions(POLICY, category="git", prefix="git ")]
    assert {"git status", "git add .", "git commit -m"} <= set(git)
    assert suggestions(POLICY, category="nothing") == []
    assert suggestions(POLICY, category="npm") == []
    assert [c for c, _, _ in suggestions(POLICY, query="count")] == ["wc -l"]
    assert suggestions(CommandPolicy(enabled=False)) == []
    assert len(CommandIssue) == 13
