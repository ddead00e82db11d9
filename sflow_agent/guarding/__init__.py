"""What must outlive an agent: its guardian, and the keeper of a local run."""
