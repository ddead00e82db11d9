"""What becomes of findings that are a matter of judgement."""
