"""Commands that change a live run. They ask its controller, which decides: `sflow_ctl/runtime/operating` is the way there."""
