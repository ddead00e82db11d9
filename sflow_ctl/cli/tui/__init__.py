"""The full-screen view of a run, made with textual. Nothing else imports that."""
