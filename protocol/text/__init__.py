"""Pure text tools that both sides use: line matching, JSON expressions, URLs, signal names."""
