"""All measurements of this machine in turn: ``make bench`` or ``python -m benchmarks``.

Names on the command line (``startup``, ``compiler``) run only those. Nothing else should run
meanwhile.
"""

import runpy
import sys
from pathlib import Path

NAMES = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def main() -> None:
    """Run the measurements asked for."""
    chosen = sys.argv[1:] or NAMES
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        sys.exit(f"There is no measurement {unknown[0]}; there are {', '.join(NAMES)}")
    for name in chosen:
        print(f"== {name}")
        sys.argv = [f"benchmarks.{name}"]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
        print()


if __name__ == "__main__":
    main()
