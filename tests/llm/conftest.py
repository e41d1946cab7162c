"""A tiny Hugging Face model, made once a session."""

import pytest
import tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tiny_model.Tiny:
    pytest.importorskip("transformers")
    return tiny_model.make(tmp_path_factory.mktemp("tiny"))
