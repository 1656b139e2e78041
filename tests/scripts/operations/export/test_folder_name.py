"""The destination of an export is a folder if its name has no ending of an archive file."""

import pytest

from tests.scripts.operations.export.conftest import DAY, put_call


@pytest.mark.parametrize("name", ["calls", "calls-2026.11", "calls.d"])
def test_a_folder_may_have_a_dot_in_its_name(stack, run_ops_json, tmp_path, name):
    put_call(stack, "conv_1")

    code, _ = run_ops_json("export", str(tmp_path / name), *DAY)

    assert (code, (tmp_path / name / "manifest.json").exists()) == (0, True)
