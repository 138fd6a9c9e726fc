"""The settings of a run: what is accepted, what is refused, and in which words."""

import re
from pathlib import Path

import pytest
import yaml

from refocus.configs import RefocusError
from refocus.configs import live_config as live_module
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import LiveConfig, load_live_config, preset


def test_options_are_laid_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("demo: true\nfps: 5\nsave: out\n")
    config = load_live_config(file, {"fps": 20.0})
    assert config.fps == 20.0
    assert config.save == tmp_path / "out"  # relative to the file


def test_optics_on_the_command_line_are_laid_over_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "demo: true\noptics:\n  na: 1.2\n  immersion: water\n"
        "  channels: {DAPI: {emission_um: 0.46}}\n"
    )
    known = load_live_config(file, {"optics": {"na": 1.1}}).optics
    assert (known.na, known.immersion, known.of("DAPI").emission_um) == (1.1, "water", 0.46)
    with pytest.raises(RefocusError, match=r"^--na: 20 is no aperture"):
        load_live_config(file, {"optics": {"na": 20.0}})
    file.write_text("demo: true\noptics:\n")
    assert load_live_config(file, {}) == LiveConfig(demo=True)


def test_a_source_on_the_command_line_replaces_the_files(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("demo: true\nqueue: 3\n")
    config = load_live_config(file, {"replay": tmp_path})
    assert (config.demo, config.replay, config.queue) == (False, tmp_path, 3)
    file.write_text("replay: images\n")
    assert load_live_config(file, {"demo": True}).replay is None


def test_the_shipped_preset_is_the_one_made_from_the_model() -> None:
    file = Path(live_module.__file__).with_name("live.yaml")
    text = file.read_text(encoding="utf-8")
    assert text == preset(), "python -m refocus.configs.live_config > configs/live.yaml"
    assert load_live_config(file, {}) == LiveConfig(demo=True)
    stated = yaml.safe_load(text)
    assert next(iter(stated.items())) == ("demo", True)
    examples = dict(re.findall(r"^# (\w+): (.+?)  +#", text, re.MULTILINE))
    assert sorted([*stated, *examples]) == sorted(LiveConfig.model_fields)
    known = dict(re.findall(r"^  # (\w+): (.+?)  +#", text, re.MULTILINE))
    assert list(known) == list(KnownOptics.model_fields)
    KnownOptics.model_validate({key: yaml.safe_load(example) for key, example in known.items()})
    for key, example in examples.items():
        (group,) = [g for g in LiveConfig.__bases__ if key in g.model_fields]
        group.model_validate({key: yaml.safe_load(example)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo: true\npolcy: newest\n", "line 2: unknown key 'polcy'; did you mean 'policy'?"),
        ("demo: true\nzzz: 1\n", "line 2: unknown key 'zzz'; allowed: demo, replay"),
        ("# a\n\ndemo: true\nfps: -1\n", "line 4: fps: input should be greater than or equ"),
        ("demo: true\nfps: 0.01\n", "fps: input should be greater than or equal to 0.25, got 0.0"),
        ("demo: true\npolicy: oldest\n", "line 2: policy: input should be 'newest' or 'every'"),
        ("demo: true\nframes: many\n", "line 2: frames: input should be a valid integer"),
        ("demo: true\npublish: 5556\n", "line 2: publish: input should be a valid string"),
        ("demo: true\ndemo: true\n", "line 2: key 'demo' was already given on line 1"),
        ("demo: true\n  fps: : 3\n", "line 2: not YAML"),
        ("- demo\n", "line 1: expected lines of 'key: value'"),
        ("queue: 3\n", "name one source of frames"),
        ("demo: true\nreplay: a\n", "got --demo and --replay"),
        ("demo: true\nreference: a\n", "--reference needs --replay"),
        ("mm_config: a.cfg\nfps: 3\n", "--fps needs --demo or --replay"),
        ("replay: a\ndrift: 3\n", "--drift needs --demo"),
        ("demo: true\nsequence: s.yaml\nframes: 3\n", "leave one out"),
        ("replay: a\nreimage: 1s\n", "--reimage needs --demo or --mm-config"),
        ("demo: true\nreimage: soon\n", "line 2: reimage: write a time such as 0.5s"),
        ("demo: true\nreimage: 0s\n", "above 0, got '0s'"),
        ("demo: true\nreimage: 1s\nact: true\n", "both move the stage"),
        ("demo: true\nreimage_frames: 3\n", "--reimage-frames needs --reimage TIME"),
        ("demo: true\nwait_subscribers: 1\n", "--wait-subscribers needs --publish"),
        ("demo: true\npublish_raw: true\n", "--publish-raw needs --publish"),
        ("demo: true\nkeys: k\n", "--keys needs --publish"),
        ("demo: true\nshared_memory: true\n", "--shared-memory needs --publish"),
        ("demo: true\npolicy: every\n", "--policy every needs --save DIR"),
        ("demo: true\nregion: [0, 0, 64]\n", "line 2: region: give X,Y,WIDTH,HEIGHT in pixels"),
        ("demo: true\nregion: [0, 0, 16, 64]\n", "at least 32 wide and high, got 0,0,16,64"),
        ("demo: true\nchannels: DAPI\n", "line 2: channels: input should be a valid dict"),
        ("demo: true\nchannels: [DAPI]\n", "line 2: channels: write NAME=MODEL"),
        ("demo: true\npublish: inproc://x\n", "publish: 'inproc://x' is not an endpoint"),
        ("demo: true\nsave: ''\n", "line 2: save: name a file or a folder, or leave it out"),
        (
            "demo: true\nlight_path: ''\n",
            "line 2: light_path: name a file or a folder",
        ),
        ("demo: true\npublish: nowhere\n", "line 2: publish: 'nowhere' is not an endpoint"),
        ("demo: true\npixel_size_um: 0.3\n", "'pixel_size_um'; it belongs below 'optics:'; allow"),
        ("demo: true\noptics:\n  nna: 0.7\n", "line 3: unknown key 'nna'; did you mean 'na'?"),
        ("demo: true\noptics:\n  na: 20\n", "line 3: optics.na: 20 is no aperture"),
        ("demo: true\noptics: {na: 1.3}\n", "line 2: optics: na 1.3 with immersion not told"),
        (
            "demo: true\noptics:\n  channels:\n    DAPI: {emission_um: 461}\n",
            "line 4: optics.channels.DAPI.emission_um: 461 µm is no wavelength of light; did you",
        ),
        ("demo: true\noptics:\n  channels: [DAPI]\n", "line 3: optics.channels: input should be"),
        ("demo: true\nevery_nth: 0\n", "line 2: every_nth: input should be greater than or equal"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(RefocusError) as caught:
        load_live_config(file, {})
    message = str(caught.value)
    assert expected in message
    assert str(file) in message
    assert "\n" not in message


def test_a_wrong_option_is_named_as_it_was_typed() -> None:
    with pytest.raises(RefocusError, match=r"^--wait-subscribers: input should be"):
        load_live_config(None, {"demo": True, "wait_subscribers": -1})


@pytest.mark.parametrize("content", [None, b"\x80\x81"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RefocusError, match=r"cannot be read: .*give a YAML file"):
        load_live_config(file, {})


def test_an_empty_file_is_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("# nothing yet\n")
    assert load_live_config(file, {"demo": True}) == LiveConfig(demo=True)


@pytest.mark.parametrize(("said", "seconds"), [("0.5s", 0.5), ("800ms", 0.8), ("2", 2.0), (3, 3.0)])
def test_a_time_is_read_with_its_unit(said: object, seconds: float) -> None:
    assert LiveConfig(demo=True, reimage=said).reimage_seconds == seconds
