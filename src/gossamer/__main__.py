"""Entry point of ``gossamer`` and of ``python -m gossamer``: loads the command line and runs it.

It imports next to nothing itself, so that Ctrl-C while the commands load, about a second, ends
with one line as it does later, not with a traceback.
"""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from gossamer.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("gossamer: stopped\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
