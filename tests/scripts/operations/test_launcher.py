"""`scripts/ops`: whatever folder it is called from, only the project's own code runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project as it is installed, with an environment that is ready."""
    folder = tmp_path / "project"
    parts = (
        "scripts", "shared", "api", "archiver", "memory_writer", "reconciler", "indexer", "transcriber", "canary",
        "ingest",
    )  # fmt: skip
    for part in parts:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / file, folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    (folder / ".venv/ready").touch()
    return folder


HOSTILE = ("typer", "rich", "json", "sitecustomize", "usercustomize", "scripts")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder with modules that somebody else wrote: each leaves a file when it runs."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write('{name} ')\n")
    return folder


@pytest.mark.parametrize("python_path", [None, "", ":", ".", "/nowhere:", "the folder"])
def test_no_module_of_the_current_folder_runs_with_the_operators_credentials(project, downloads, python_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if python_path is not None:
        environment["PYTHONPATH"] = str(downloads) if python_path == "the folder" else python_path

    done = subprocess.run(
        [project / "scripts/ops", "--help"], cwd=downloads, env=environment, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "rotate-secret" in done.stdout
    assert sorted(each.name for each in downloads.iterdir()) == sorted(f"{name}.py" for name in HOSTILE)


def test_a_file_that_lies_in_the_project_runs_in_place_of_no_library(project, tmp_path):
    ran = tmp_path / "ran"
    for name in ("msgspec", "typer", "json"):
        (project / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\n")

    done = subprocess.run(["./scripts/ops", "--help"], cwd=project, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr, ran.exists()) == (0, "", False)


def test_settings_of_make_run_nothing_before_the_tool(project, tmp_path):
    ran, settings = tmp_path / "ran", tmp_path / "settings.mk"
    settings.write_text(f"$(shell touch {ran})\n")

    done = subprocess.run(
        [project / "scripts/ops", "--help"], cwd=tmp_path, env=os.environ | {"MAKEFILES": str(settings)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stderr, ran.exists()) == (0, "", False)


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "erasure-20261122T100000Z.json", "erasure-20261122T100000Z.txt", "dropped-archive-20261122T100000Z.jsonl",
        "calls.zip", "calls.tar.gz", "calls.zip.parts/records/conv_1.json", "there/.export/journal.jsonl",
        "there/records/conv_1.json", "there/12025550123/conv_1.mp3", "there/no-phone/conv_1.json",
        "there/manifest.json",
    ],
)  # fmt: skip
def test_git_takes_no_file_of_the_tool_that_holds_personal_data(tmp_path, name):
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=60)

    listed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert listed.stdout == "?? .gitignore\n"


def test_the_tool_finds_its_project_whatever_cdpath_says(project, tmp_path):
    (tmp_path / "elsewhere/scripts").mkdir(parents=True)

    done = subprocess.run(
        ["scripts/ops", "dlq", "show"], cwd=project, env=os.environ | {"CDPATH": str(tmp_path / "elsewhere")},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert "Missing argument" in done.stderr


def test_an_environment_behind_a_link_is_not_cleared(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-dev.txt").touch()
    (tmp_path / "shared-environment").mkdir()
    (tmp_path / "shared-environment" / "kept").touch()
    (tmp_path / ".venv").symlink_to("shared-environment")

    done = subprocess.run(["make", ".venv/ready"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode != 0
    assert ".venv is a link" in done.stderr
    assert (tmp_path / "shared-environment" / "kept").exists()
