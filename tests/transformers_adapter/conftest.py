"""Settings of transformers for tests: no network, and a folder of this session for model code."""

from pathlib import Path

import pytest

pytest.importorskip("transformers")


@pytest.fixture(scope="session", autouse=True)
def modules_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for code that is saved with models. A process imports from only one."""
    import huggingface_hub.constants
    import transformers.dynamic_module_utils as dynamic

    folder = tmp_path_factory.mktemp("modules")
    dynamic.HF_MODULES_CACHE = str(folder)
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    return folder
