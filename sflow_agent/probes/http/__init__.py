"""HTTP over a non-blocking socket: connecting, TLS, the exchange and its verdict."""
