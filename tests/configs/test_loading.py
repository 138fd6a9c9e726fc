"""Files of settings that say more than they show."""

import pytest

from refocus.acquisition.command.sources import read_sequence
from refocus.configs import RefocusError
from refocus.configs.live_config import load_live_config
from refocus.configs.loading import MOST_BYTES

NESTED = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize("read", [read_sequence, lambda path: load_live_config(path, {})])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (NESTED, r"line 7: makes more than 500000 values"),
        (MERGED, r"line 7: makes more than 500000 values"),
        ("a: &a [*a]", "contains itself through an alias"),
        ("[" * 5000, "not YAML"),
        ("a: " + "9" * 2000, "a number of too many digits"),
        ("a: 1" + ":1" * 2000, "a number of too many digits"),
        ("#" * (MOST_BYTES + 1), "larger than 4 MB"),
    ],
)
def test_what_would_fill_the_memory_is_refused_in_one_line(tmp_path, read, text, says):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(RefocusError, match=says) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_aliases_that_save_typing_are_kept(tmp_path):
    path = tmp_path / "sequence.yaml"
    path.write_text(
        "metadata: {first: &place {x: 1, y: 2}}\nstage_positions: [*place, {<<: *place, z: 3}]\n"
    )
    first, second = read_sequence(path).stage_positions
    assert (first.x, second.y, second.z) == (1, 2, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_powershell_redirects_is_read(tmp_path, encoding, line_end):
    path = tmp_path / "sequence.yaml"
    text = "channels: [DAPI]\nmetadata: {z_step: 2 µm}\n"
    path.write_bytes(text.replace("\n", line_end).encode(encoding))
    sequence = read_sequence(path)
    assert sequence.channels[0].config == "DAPI"
    assert sequence.metadata["z_step"] == "2 µm"
    path.write_bytes(f"demo: true{line_end}queue: 3{line_end}".encode(encoding))
    assert load_live_config(path, {}).queue == 3


def test_half_a_letter_is_refused_in_one_line(tmp_path):
    path = tmp_path / "sequence.yaml"
    path.write_bytes("channels: [DAPI]".encode("utf-16")[:-1])
    with pytest.raises(RefocusError, match="not a text file"):
        read_sequence(path)
