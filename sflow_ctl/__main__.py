"""`sflow-ctl` and `python -m sflow_ctl`."""

from sflow_ctl.cli.app import main

if __name__ == "__main__":
    main()
