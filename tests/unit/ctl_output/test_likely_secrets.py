"""What looks like a secret in texts for other people: known forms in any company, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sflow_ctl.runtime.files import likely_secrets
from sflow_ctl.runtime.files.likely_secrets import is_name_of_secret, masked_by_form

SECRETS = (
    "token=abcdef", "PASSWORD: hunter22", "hf_" + "a" * 20, "sk-" + "b" * 20, "ghp_" + "c" * 24, "AKIA" + "D" * 16,
    "xoxb-1234567890ab", "eyJ" + "a" * 12 + ".bbbbbbbbbb.ccccccc", "http://u:p@h/", "Bearer abcdefgh1", "api-key = 12345",
    "access_key_id=zzzz9", "credentials: abcd", "private-key=xyzz1",
)  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS)
def test_each_known_form_is_masked(secret: str) -> None:
    assert "***" in masked_by_form(f"he said {secret} twice")


@given(st.lists(st.sampled_from((*SECRETS, "hello", "/tmp/x", "step 5")), max_size=4), st.sampled_from("ult"))
def test_a_text_without_a_sign_has_nothing_that_the_patterns_would_find(words: list[str], case: str) -> None:
    text = " ".join(words)
    text = {"u": text.upper(), "l": text.lower(), "t": text}[case]
    by_patterns = likely_secrets._BY_FORM.sub("***", likely_secrets._NAMED.sub(r"\1\2***", text))
    assert masked_by_form(text) == by_patterns


NAME_PARTS = (
    "HF",
    "access",
    "api",
    "key",
    "id",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "s",
    "private",
    "_",
    "-",
    "run",
)


@given(st.lists(st.sampled_from(NAME_PARTS), max_size=5), st.booleans())
def test_a_name_is_one_of_a_secret_where_the_pattern_matches(parts: list[str], is_upper: bool) -> None:
    name = "".join(parts).upper() if is_upper else "".join(parts)
    assert is_name_of_secret(name) == (likely_secrets._SECRET_NAME.search(name) is not None)
