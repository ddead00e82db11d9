"""`sflow-agent` and `python -I -m sflow_agent`. Started by launchers, not by people."""

import sys

from sflow_agent.guardian import guard


def main() -> None:
    """Entry point of guardian and agent alike. Never returns."""
    sys.exit(guard())


if __name__ == "__main__":
    main()
