"""What resuming a run needs lies in a folder that comes and goes whole."""

from pathlib import Path

import torch

from refocus.training.run_state import SafeCheckpointIO


def test_what_a_kill_left_is_taken_over_and_goes_with_the_state(tmp_path: Path) -> None:
    states, folder = SafeCheckpointIO(), tmp_path / "run"
    folder.mkdir()
    (folder / ".run.safetensors.part").write_bytes(b"half" * 1000)
    states.save_checkpoint({"step": 3, "weights": torch.arange(4)}, folder)
    assert [file.name for file in folder.iterdir()] == ["run.safetensors"]
    read = states.load_checkpoint(folder)
    assert (read["step"], read["weights"].tolist()) == (3, [0, 1, 2, 3])
    states.remove_checkpoint(folder)
    assert not folder.exists()
