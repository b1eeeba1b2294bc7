"""The shipped policies: where they are, what their cards say, and that a changed file is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from fst_envs.commands import app
from fst_envs.house import policy
from typer.testing import CliRunner

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The shipped folders as a copy that a test may spoil."""
    shutil.copytree(policy.FOLDER, tmp_path / "policies")
    monkeypatch.setattr(policy, "FOLDER", tmp_path / "policies")
    return tmp_path / "policies"


@pytest.mark.parametrize("reads", list(policy.KINDS))
def test_the_folder_holds_what_the_card_names_and_nothing_else(reads):
    folder = policy.path(reads)
    card = policy.card(folder)
    assert card["reads"] == reads and folder.is_absolute()
    assert {file.name for file in folder.iterdir()} == {*card["sha256"], policy.CARD_FILE}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(card["sha256"])


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_changed_or_lost_file_is_refused_by_name(copied, name):
    file = copied / "rules" / name
    content = bytearray(file.read_bytes())
    assert policy.path("rules") == copied / "rules"
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"rules/{name} is not the file of its card"):
        policy.path("rules")
    assert policy.path("graphs") == copied / "graphs"
    file.unlink()
    with pytest.raises(ValueError, match=rf"rules/{name} is missing"):
        policy.path("rules")


def test_a_folder_without_a_card_is_refused(copied):
    (copied / "graphs" / policy.CARD_FILE).unlink()
    with pytest.raises(ValueError, match=r"graphs/card\.json is missing"):
        policy.path("graphs")


@pytest.mark.parametrize("reads", list(policy.KINDS))
def test_the_command_prints_the_path_alone(reads):
    fst = [sys.executable, "-c", "from fst_plugin.cli import app; app()"]
    out = subprocess.run([*fst, "env", "policy", reads], capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout == f"{policy.path(reads)}\n", out.stderr


def test_the_command_prints_the_table_or_says_what_is_wrong(copied):
    shown = CliRunner().invoke(app, ["policy", "graphs", "--card"])
    assert shown.exit_code == 0 and shown.stdout.strip() == policy.table(copied / "graphs")
    assert "degree 3" in shown.stdout and "0.30 /0.32" in shown.stdout
    wrong = CliRunner().invoke(app, ["policy", "letters"])
    assert wrong.exit_code == 1 and wrong.stdout == "" and "use one of rules, graphs" in wrong.stderr
    (copied / "rules" / "config.json").unlink()
    lost = CliRunner().invoke(app, ["policy"])
    assert lost.exit_code == 1 and lost.stdout == "" and "config.json is missing" in lost.stderr


@pytest.mark.parametrize("reads", policy.KINDS)
def test_the_published_figures_stand_on_the_shipped_weights(reads):
    with tarfile.open(ROOT / "examples" / "paper_claims" / "runs.tar.gz") as archive:
        trained_from = json.load(archive.extractfile("base_models.json"))
    assert trained_from[reads] == policy.card(policy.path(reads))["sha256"]["model.safetensors"]


def test_the_wheel_holds_the_policies(tmp_path):
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for reads in policy.KINDS:
            for name, digest in policy.card(policy.path(reads))["sha256"].items():
                content = archive.read(f"fst_envs/house/policies/{reads}/{name}")
                assert hashlib.sha256(content).hexdigest() == digest
