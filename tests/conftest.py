"""What all tests share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither a site's nor a user's settings change what tests see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFLOW_SITE_FILE", "")
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield
