"""A scheduler's state as data that can be written and read: what its successor begins with in place of a whole journal. Pure."""
