"""Git's credential helper of this server; see ``runner.git.access``.

Started by git as ``python -I -S <this file> get``: it answers for one host only, over one protocol
only, and stores nothing. Standard library only.
"""

import os
import sys

HOST = "DRAGOMAN_GIT_HOST"
PROTOCOL = "DRAGOMAN_GIT_PROTOCOL"
USERNAME = "DRAGOMAN_GIT_USERNAME"
SECRET = "DRAGOMAN_GIT_SECRET"  # noqa: S105 - a variable's name


def main() -> None:
    """Answer ``get``; ``store`` and ``erase`` do nothing."""
    if sys.argv[1:] != ["get"]:
        return
    asked = dict(line.rstrip("\n").partition("=")[::2] for line in sys.stdin if "=" in line)
    wanted = (os.environ[PROTOCOL], os.environ[HOST].lower())
    if (asked.get("protocol", ""), asked.get("host", "").lower()) == wanted:
        answer = f"username={os.environ[USERNAME]}\npassword={os.environ[SECRET]}\n"
        sys.stdout.write(answer)


if __name__ == "__main__":
    main()
