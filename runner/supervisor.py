"""Stand-alone supervisor of one run: starts the agent, watches it, records how it ended.

Started as ``python -I -S <this file> <absolute run folder>`` with the run's locked lock file as
standard input. One such process lives beside every running agent, so it imports little, and only
from the standard library. Files in the run folder are its whole interface:

``spec.json``       read once, deleted as soon as the agent runs (it holds the agent's credentials)
``processes.json``  the processes seen alive, rewritten whenever they change
``started.json``    written once the agent's program really executes
``exit.json``       written last: how the agent ended and why

The agent is ended here, without the server, when the server's heartbeat file goes stale, when it
writes or lasts too long, and when this process is asked to stop with SIGTERM.
"""
# ruff: noqa: PTH104, PTH106, PTH108, PTH116, PTH123, PTH208
# Importing pathlib would add 2 MB to every run.

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
TICK_SECONDS = 0.25
FAST_TICK_SECONDS = 0.05
RECORD_ATTEMPTS = 120
MAX_RECORDED = 2000
ON_LINUX = sys.platform == "linux"
# Python ignores the first two, nohup SIGHUP, a shell's background job SIGINT and SIGQUIT.
SIGNALS_AS_USUAL = (
    *(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP),
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
)
# Under memory pressure the kernel shall end the agent, not the one who can report it.
AGENT_OOM_SCORE = b"500"
INTERRUPT, TERMINATE, KILL = range(3)
STAGE_LIMITS = ("interrupt_seconds", "terminate_seconds", "kill_seconds")

TYPE_CHECKING = False  # importing typing costs memory too
if TYPE_CHECKING:
    from typing import Any

    _Process = list[Any]  # [pid, start time in clock ticks since boot, session, process group]


def note(text: str) -> None:
    """One line for supervisor.log, the only place where this process can complain."""
    os.write(2, text.encode(errors="replace") + b"\n")


def read_bytes(path: str) -> bytes:
    """A file of /proc, or b"" where it cannot be read (its process may just have ended)."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(fd, 1 << 20)
    except OSError:
        return b""
    finally:
        os.close(fd)


def write_bytes(path: str, data: bytes) -> bool:
    """Write to an existing kernel file; False where that is refused."""
    try:
        fd = os.open(path, os.O_WRONLY)
    except OSError:
        return False
    try:
        return os.write(fd, data) == len(data)
    except OSError:
        return False
    finally:
        os.close(fd)


def write_json(name: str, value: dict[str, Any], *, durable: bool) -> None:
    """Replace a file of the run folder atomically; durable also survives a power cut."""
    temporary = f".{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb", buffering=0) as file:
        data = memoryview(json.dumps(value).encode())
        while data:
            data = data[file.write(data) :]
        if durable:
            os.fsync(fd)
    os.rename(temporary, name)
    if durable:
        folder = os.open(".", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def stat_fields(pid: int) -> list[bytes]:
    """Fields of /proc/<pid>/stat from the state on, [] where there is none.

    The name before them may hold blanks and parentheses, so they are counted from its end.
    """
    fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields if len(fields) > 19 else []  # noqa: PLR2004 - the last one read below


def start_time(pid: int) -> int | None:
    """When a process (also a zombie) started, in clock ticks since boot; None off Linux."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def children_of(pid: int) -> list[int]:
    """Direct children of every thread of a process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    lists = [read_bytes(f"/proc/{pid}/task/{thread}/children") for thread in threads]
    return [int(child) for listed in lists for child in listed.split()]


class Supervisor:
    """One agent from its start to its recorded end."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.limits = spec["limits"]
        self.started_at, self.started = time.time(), time.monotonic()
        self.agent = 0
        self.status: int | None = None
        self.usage: Any = None
        self.ended_at: float | None = None
        self.spawn_error: tuple[str, str] | None = None
        self.reason: str | None = None
        self.stage: int | None = None
        self.stage_until = 0.0
        self.asked_to_stop = False
        self.identity: dict[str, Any] = {}
        self.recorded: list[_Process] = []
        self.leftovers = 0
        self.cgroup: str | None = spec["cgroup"]
        self.heartbeat: int | None = None
        self.heartbeat_seen = self.started
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.outputs = [os.open(name, flags, 0o600) for name in ("stdout.log", "stderr.log")]

    # -- starting -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the agent, or set spawn_error when its program cannot be executed.

        The child waits until it is recorded, so that no agent ever runs that a restarted server
        could not find; if this process dies before, the child ends without executing anything.
        """
        go_read, go_write = os.pipe()
        error_read, error_write = os.pipe()
        self.agent = os.fork()
        if self.agent == 0:
            os.close(go_write)
            self.become_agent(go_read, error_write)
        os.close(go_read)
        os.close(error_write)
        if self.cgroup and not write_bytes(self.cgroup + "/cgroup.procs", b"%d" % self.agent):
            self.remove_cgroup()
        self.identity = {
            "version": 1,
            "run_id": self.spec["run_id"],
            "boot_id": read_bytes("/proc/sys/kernel/random/boot_id").decode().strip(),
            "supervisor": [os.getpid(), start_time(os.getpid())],
            "agent": [self.agent, start_time(self.agent)],
            "reaper": os.getppid(),
            "cgroup": self.cgroup,
            "cwd": self.spec["cwd"],
            "started_at": self.started_at,
        }
        write_json("processes.json", {**self.identity, "alive": []}, durable=False)
        os.write(go_write, b"g")
        os.close(go_write)
        with open(error_read, "rb") as errors:
            number, _, text = errors.read().decode(errors="replace").partition(" ")
        if number:
            self.spawn_error = (errno.errorcode.get(int(number), number), text)
        else:
            write_json("started.json", self.identity, durable=True)
        os.unlink("spec.json")

    def become_agent(self, go_read: int, error_write: int) -> None:
        """Turn the forked child into the agent; never returns."""
        where = "start"
        try:
            os.setsid()
            write_bytes("/proc/self/oom_score_adj", AGENT_OOM_SCORE)
            if os.read(go_read, 1) != b"g":
                os._exit(125)
            where = self.spec["stdin"] or os.devnull
            for target, source in enumerate((os.open(where, os.O_RDONLY), *self.outputs)):
                os.dup2(source, target)
            where = self.spec["cwd"]
            os.chdir(where)
            for number in SIGNALS_AS_USUAL:
                # Ignored here, or by who started the server; ignoring would outlive the exec.
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            where = self.spec["argv"][0]
            os.execvpe(where, self.spec["argv"], self.spec["env"])  # noqa: S606 - no shell is the point
        except OSError as error:
            os.write(error_write, f"{error.errno or 0} {where}: {error.strerror}".encode())
        except BaseException as error:  # noqa: BLE001 - the forked copy must never run on
            os.write(error_write, f"0 {where}: {error!r}".encode(errors="replace"))
        os._exit(127)

    # -- watching -----------------------------------------------------------------------------

    def descendants(self) -> list[_Process]:
        """Every live process below this one, orphans included (off Linux: the agent alone)."""
        if not ON_LINUX:
            return [[self.agent, None, self.agent, self.agent]] if self.status is None else []
        found, waiting = {}, children_of(os.getpid())
        while waiting:
            pid = waiting.pop()
            fields = stat_fields(pid)
            if pid not in found and fields and fields[0] not in b"ZX":
                found[pid] = [pid, int(fields[19]), int(fields[3]), int(fields[2])]
                waiting.extend(children_of(pid))
        return sorted(found.values())

    def record_processes(self) -> None:
        """Keep processes.json current, for the day this process is killed."""
        alive = self.descendants()[:MAX_RECORDED]
        if alive == self.recorded:
            return
        try:
            write_json("processes.json", {**self.identity, "alive": alive}, durable=False)
            self.recorded = alive
        except OSError as error:
            # A full disk must not end the watch over the agent; the next tick tries again.
            note(f"processes.json: {error}")

    def output_bytes(self) -> int:
        """Bytes in both output files together."""
        return sum(os.fstat(fd).st_size for fd in self.outputs)

    def server_is_gone(self) -> bool:
        """Whether the heartbeat file is too old by both clocks.

        The wall clock may jump, so the file must also have stood still under our eyes; a time
        in the future proves nothing and is not believed.
        """
        patience = self.limits["orphan_after"]
        if not self.spec["heartbeat"]:
            return False
        try:
            touched = os.stat(self.spec["heartbeat"]).st_mtime_ns
        except OSError:
            touched = None
        now = time.monotonic()
        if touched != self.heartbeat:
            self.heartbeat, self.heartbeat_seen = touched, now
        if now - self.heartbeat_seen < patience:
            return False
        age = patience if touched is None else time.time() - touched / 1e9
        return not 0 <= age < patience

    def find_reason_to_end(self) -> str | None:
        """Why the agent must be ended now, or None."""
        if self.asked_to_stop:
            return "terminated"
        if self.output_bytes() > self.limits["max_output_bytes"]:
            return "output_limit"
        if time.monotonic() - self.started > self.limits["max_seconds"]:
            return "time_limit"
        return "orphaned" if self.server_is_gone() else None

    def wait_for_news(self, seconds: float) -> None:
        """Sleep until a child ends, a stop is asked for, or the time is over."""
        if sys.platform == "linux":
            news = signal.sigtimedwait((signal.SIGCHLD, signal.SIGTERM), seconds)
            asked = news is not None and news.si_signo == signal.SIGTERM
        else:
            time.sleep(min(seconds, FAST_TICK_SECONDS))
            asked = signal.SIGTERM in signal.sigpending()
        self.asked_to_stop = self.asked_to_stop or asked

    def reap(self) -> bool:
        """Collect ended children; False when no child is left.

        Orphans become our children, so False proves that nothing is left of the agent.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.agent:
                self.status, self.usage, self.ended_at = status, usage, time.time()

    # -- ending -------------------------------------------------------------------------------

    def send(self, number: int, pids: list[int]) -> None:
        """Signal processes; those already gone or not ours to signal are passed over."""
        for pid in pids:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue

    def enter_stage(self, stage: int) -> None:
        """Send what a stage of the ladder sends, and note how long it may take."""
        self.stage = stage
        self.stage_until = time.monotonic() + self.limits[STAGE_LIMITS[stage]]
        if stage == INTERRUPT:
            self.send(signal.SIGINT, [-self.agent])
        elif stage == TERMINATE:
            self.send(signal.SIGTERM, [process[0] for process in self.descendants()])
        else:
            self.kill_everything()

    def kill_everything(self) -> None:
        """One round of SIGKILL; repeated by the caller until no child is left."""
        if self.cgroup:
            write_bytes(self.cgroup + "/cgroup.kill", b"1")
        found = [process[0] for process in self.descendants()]
        self.send(signal.SIGKILL, found if ON_LINUX else [-self.agent])

    def climb(self) -> None:
        """Move up the ladder as its times run out."""
        if self.stage is None:
            self.enter_stage(INTERRUPT)
        elif self.stage == KILL:
            self.kill_everything()
        elif self.output_bytes() > 2 * self.limits["max_output_bytes"]:
            self.enter_stage(KILL)  # who goes on flooding the disk gets no more patience
        elif time.monotonic() >= self.stage_until:
            self.enter_stage(self.stage + 1)

    def watch(self) -> None:
        """Return once the agent itself has ended."""
        while self.status is None:
            nearly_full = self.output_bytes() * 2 > self.limits["max_output_bytes"]
            hurry = nearly_full or self.stage is not None
            self.wait_for_news(FAST_TICK_SECONDS if hurry else TICK_SECONDS)
            self.reap()
            if self.status is None:
                self.record_processes()
                self.reason = self.reason or self.find_reason_to_end()
                if self.reason:
                    self.climb()

    def clear_leftovers(self) -> None:
        """End what the agent left behind: a run that is over leaves no process."""
        if not self.reap():
            return
        if not ON_LINUX:
            self.send(signal.SIGKILL, [-self.agent])
            return
        self.leftovers = len(self.descendants())
        if self.stage != KILL:
            self.enter_stage(TERMINATE)
        give_up = self.stage_until + self.limits["kill_seconds"]
        while self.reap() and time.monotonic() < give_up:
            if self.stage == KILL:
                self.kill_everything()
            elif time.monotonic() >= self.stage_until:
                self.enter_stage(KILL)
            self.record_processes()
            self.wait_for_news(FAST_TICK_SECONDS)

    def remove_cgroup(self) -> None:
        """Remove our cgroup, if there is one."""
        if self.cgroup:
            try:
                os.rmdir(self.cgroup)
            except OSError as error:
                note(f"{self.cgroup}: {error}")
            self.cgroup = None

    def supervise(self) -> None:
        """The whole life of the run up to its outcome."""
        try:
            self.start()
            self.watch()
        finally:
            if self.agent and self.status is None:
                self.enter_stage(KILL)  # only after a failure of our own: nobody would watch it
            self.clear_leftovers()
            self.remove_cgroup()
        for fd in self.outputs:
            if os.fstat(fd).st_size > self.limits["max_output_bytes"]:
                os.ftruncate(fd, self.limits["max_output_bytes"])
            os.fsync(fd)

    def outcome(self) -> dict[str, Any]:
        """The content of exit.json."""
        code = signal_number = None
        if self.status is not None and not self.spawn_error:
            code = os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None
            signal_number = os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None
        usage = self.usage
        return {
            "reason": "spawn_error" if self.spawn_error else self.reason or "exited",
            "exit_code": code,
            "signal": signal_number,
            "errno": self.spawn_error and self.spawn_error[0],
            "error": self.spawn_error and self.spawn_error[1],
            "started_at": self.started_at,
            "ended_at": self.ended_at or time.time(),
            "leftovers": self.leftovers,
            "output_bytes": self.output_bytes(),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3) if usage else None,
            "max_rss_kib": usage.ru_maxrss // (1 if ON_LINUX else 1024) if usage else None,
        }


def record_outcome(outcome: dict[str, Any]) -> None:
    """Write exit.json, waiting a while for room on a full disk."""
    for attempt in range(RECORD_ATTEMPTS):
        try:
            write_json("exit.json", outcome, durable=True)
        except OSError as error:
            note(f"exit.json, attempt {attempt}: {error}")
            time.sleep(1)
        else:
            return


def main(folder: str) -> None:
    """Supervise the run whose folder is given; the process that was started ends at once."""
    os.chdir(folder)
    if os.fork():
        # The starter reaps this short-lived parent; the supervisor itself is init's to reap,
        # whoever started it and however often the server restarts.
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if ON_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        with open("spec.json", "rb") as file:
            run = Supervisor(json.load(file))
        run.supervise()
        outcome = run.outcome()
    except Exception as error:  # noqa: BLE001 - whatever it was, the server must learn of it
        now = time.time()
        outcome = {"reason": "supervisor_error", "error": repr(error), "ended_at": now}
    record_outcome(outcome)


if __name__ == "__main__":
    main(sys.argv[1])
