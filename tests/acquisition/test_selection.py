"""Which frames are refocused, and what becomes of the others."""

import threading

import numpy as np
import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.pipeline.queue import Task
from refocus.acquisition.selection import Chooser, Selection
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import ModelCard, Optics, RefocusError
from refocus.engine import EngineInfo
from refocus.engine.by_channel import open_models
from refocus.engine.fake import FakeEngine

from ..conftest import Gated, loops, zarr_arrays

CHANNELS = ["DAPI", "BF"]
STACK = {"range": 4, "step": 2}


def index(event):
    return {str(axis): n for axis, n in event.index.items()}


def channel(event):
    return event.channel.config if event.channel else ""


SEQUENCES = {
    "time-lapse": (loops(3), {}, "RRR"),
    "z-stack": (useq.MDASequence(z_plan=STACK), {}, "PPP"),
    "z-stack, asked for": (useq.MDASequence(z_plan=STACK), {"refocus_z": True}, "RRR"),
    "a stack of one plane": (loops(2, z_plan={"range": 0, "step": 1}), {}, "RR"),
    "a stack at one position": (
        useq.MDASequence(stage_positions=[(0, 0), {"x": 1, "sequence": {"z_plan": STACK}}, (2, 0)]),
        {},
        "RPPPR",
    ),
    "a channel without its stack": (
        useq.MDASequence(
            channels=["DAPI", {"config": "BF", "do_stack": False}], z_plan=STACK, axis_order="tpcz"
        ),
        {},
        "PPPR",
    ),
    "no mapping": (loops(2, channels=CHANNELS), {}, "RRRR"),
    "a mapping": (loops(2, channels=CHANNELS), {"channels": {"DAPI": "auto"}}, "RPRP"),
    "none": (loops(2, channels=CHANNELS), {"channels": {"DAPI": "auto", "BF": "none"}}, "RPRP"),
    "every second": (loops(5), {"every_nth": 2}, "RLRLR"),
    "every second of each channel": (loops(3, channels=CHANNELS), {"every_nth": 2}, "RRLLRR"),
    "every second of the mapped": (
        loops(3, channels=CHANNELS),
        {"every_nth": 2, "channels": {"BF": "auto"}},
        "PRPLPR",
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_the_choice_follows_from_the_sequence(name):
    sequence, settings, expected = SEQUENCES[name]
    chooser = Chooser(Selection(**settings), sequence)
    letters = {Task.REFOCUS: "R", Task.PASS: "P", Task.LEAVE: "L"}
    chosen = [chooser.choose(channel(event), event.index)[0] for event in sequence]
    assert "".join(letters[task] for task in chosen) == expected


def test_what_is_passed_on_or_left_out_is_counted_outside(microscope, tmp_path, keep):
    """A sequence with everything at once, hardware-sequenced, recorded."""
    sequence = loops(4, channels=CHANNELS)
    selection = Selection(channels={"DAPI": "fake"}, every_nth=2)
    recorder = Recorder(tmp_path / "r.ome.zarr")
    raw = []
    microscope.core.mda.events.frameReady.connect(lambda *frame: raw.append(frame[0]))
    with attach(
        microscope.core, engine=FakeEngine(), sinks=[keep, recorder], selection=selection, queue=20
    ) as live:
        microscope.core.mda.run(sequence)
    stats = live.stats.check()
    assert (stats.received, stats.published, stats.skipped) == (2, 2, 6)
    assert stats.frames()["skipped"] == 6
    told = [(r.captured.frame, r.captured.channel, r.refocused, r.number) for r in keep.results]
    assert told == [
        (0, "DAPI", True, 0),
        (1, "BF", False, 1),
        (3, "BF", False, 2),
        (4, "DAPI", True, 3),
        (5, "BF", False, 4),
        (7, "BF", False, 5),
    ]
    assert keep.skipped == [(n, "left out: one frame of 2 is refocused") for n in (2, 6)]
    (recorded,) = zarr_arrays(recorder.path).values()
    recorded = recorded.reshape(8, 96, 96)
    for number, pixels in enumerate(raw):
        expected = {0: np.invert(pixels), 4: np.invert(pixels), 2: 0 * pixels, 6: 0 * pixels}
        np.testing.assert_array_equal(recorded[number], expected.get(number, pixels))


def test_a_stack_that_does_not_fit_is_passed_on_later_too(microscope, tmp_path, keep):
    """Under ``every``, frames that are only passed on are owed as well, and not counted."""
    gate = threading.Event()
    sequence = useq.MDASequence(
        axis_order="tcz",
        time_plan={"interval": 0, "loops": 2},
        channels=["FITC", {"config": "DAPI", "do_stack": False}],
        z_plan={"range": 10, "step": 1},
    )
    with attach(
        microscope.core,
        engine=Gated(gate, free=0),
        sinks=[keep],
        policy="every",
        raw=tmp_path / "raw.ome.zarr",
        queue=2,
    ) as live:
        microscope.core.mda.run(sequence, output=tmp_path / "raw.ome.zarr")
        assert live.stats.check().deferred <= 2
        gate.set()
    stats = live.stats.check()
    assert (stats.received, stats.published, stats.skipped, stats.deferred) == (2, 2, 22, 0)
    assert sorted(result.captured.frame for result in keep.results) == list(range(24))
    refocused = [r.captured.frame for r in keep.results if r.refocused]
    assert sorted(refocused) == [11, 23]
    assert all(r.captured.pixels.any() for r in keep.results)


@pytest.mark.parametrize(
    ("plans", "channels", "passed", "told"),
    [
        ({}, None, [], []),
        ({"z_plan": STACK}, None, ["z-stacks"], ["z-stacks"]),
        ({"channels": CHANNELS}, {"DAPI": "fake"}, ["'BF'"], ["'BF'"]),
        ({"channels": CHANNELS}, {"DAPI": "fake", "BF": "none"}, ["'BF'"], []),
        (
            {"channels": CHANNELS, "z_plan": STACK},
            {"DAPI": "fake"},
            ["z-stacks", "'BF'"],
            ["z-stacks", "'BF'"],
        ),
    ],
)
def test_what_is_not_refocused_is_said_once_of_each_sequence(  # noqa: PLR0917
    microscope, caplog, plans, channels, passed, told
):
    """What was asked for by name is known to whoever asked."""
    with attach(microscope.core, engine=FakeEngine(), channels=channels) as live:
        for _ in range(2):
            microscope.core.mda.run(loops(2, **plans))
            live.wait()
            assert [text for text in passed if text in " ".join(live.passed)] == passed
            assert len(live.passed) == len(passed)
    said = [r.getMessage() for r in caplog.records if "as captured" in r.getMessage()]
    assert len(said) == 2 * bool(told)
    assert all(text in line for text in told for line in said)


@pytest.mark.parametrize(
    ("sequence", "channels", "told"),
    [
        (loops(2), None, []),
        (useq.MDASequence(), None, []),  # the stand-in for a mere iterable of events
        (loops(2, channels=["DAPI", "BF"]), {"DAPI": "fake"}, ["'BF'"]),
        (loops(2, channels=["DAPI", "BF"], z_plan=STACK), {"BF": "none"}, ["'DAPI'"]),
        (SEQUENCES["a stack at one position"][0], None, ["z-stacks"]),
        (useq.MDASequence(stage_positions=[{"sequence": loops(2)}]), None, []),
        (
            useq.MDASequence(channels=[{"config": "BF", "do_stack": False}], z_plan=STACK),
            None,
            [],
        ),
    ],
)
def test_it_is_said_before_the_first_frame(sequence, channels, told):
    said = []
    Chooser(Selection(channels=channels), sequence, said.append)
    assert len(said) == bool(told)
    assert all(text in said[0] for text in told)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "every frame, no planes of z-stacks"),
        ({"refocus_z": True}, "every frame, planes of z-stacks, too"),
        (
            {"every_nth": 2, "region": (0, 0, 32, 32), "channels": {"DAPI": "auto", "BF": "none"}},
            "one frame of 2, in the region 0,0,32,32, of the channels DAPI alone, "
            "no planes of z-stacks",
        ),
        (
            {"channels": {"BF": "none"}},
            "every frame, of the channels (none) alone, no planes of z-stacks",
        ),
    ],
)
def test_attach_says_what_it_will_and_will_not_refocus(microscope, caplog, settings, said):
    with attach(microscope.core, engine=FakeEngine(), **settings):
        lines = [record.getMessage() for record in caplog.records if "attached" in record.message]
    assert lines == [
        f"attached, and refocuses {said}; it does not see the pictures of snap() and "
        "startSequenceAcquisition()"
    ]
    caplog.clear()
    with attach(microscope.core, engine=FakeEngine(), live_mode=False, **settings):
        assert not [record for record in caplog.records if "attached" in record.message]


def test_only_a_region_is_refocused(microscope, keep):
    settings = Selection(region=(10, 20, 40, 32))
    with attach(
        microscope.core, engine=FakeEngine(), sinks=[keep], selection=settings, queue=9
    ) as live:
        microscope.core.mda.run(loops(2))
    assert live.stats.check().published == 2
    for result in keep.results:
        expected = result.captured.pixels.copy()
        expected[20:52, 10:50] = np.invert(expected[20:52, 10:50])
        np.testing.assert_array_equal(result.pixels, expected)


def test_a_region_beyond_the_frame_is_refused(microscope):
    engine, settings = FakeEngine(), Selection(region=(70, 0, 40, 40))
    with pytest.raises(RefocusError, match=r"region 70,0,40,40: reaches beyond the frame of 96×96"):
        attach(microscope.core, engine=engine, selection=settings)
    assert len(microscope.core.mda.events.frameReady) == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Selection(every_nth=0), "every_nth: input should be greater .* got 0"),
        (lambda: Selection(region=(0, 0, 16, 64)), "region: give X,Y,WIDTH,HEIGHT.*0,0,16,64"),
        (lambda: Selection(region=(-1, 0, 64, 64)), "region: .* got -1,0,64,64"),
    ],
)
def test_wrong_settings_are_refused(make, says):
    with pytest.raises(RefocusError, match=says):
        make()


def test_models_are_opened_once_and_closed(monkeypatch):
    own = FakeEngine()
    opened = []
    monkeypatch.setattr(
        "refocus.engine.by_channel.open_engine",
        lambda model, **how: opened.append(FakeEngine()) or opened[-1],
    )
    channels = {"A": "auto", "B": "fake", "C": "torch", "D": "torch", "E": "none"}
    with open_models(channels, own) as engines:
        assert engines.keys() == {"A", "B", "C", "D"}
        assert engines["A"] is engines["B"] is own
        assert engines["C"] is engines["D"] is opened[0]
    assert opened[0].closed
    assert not own.closed
    with (
        pytest.raises(RefocusError, match=r"channel A: no model 'zebra'; give the path of an ONNX"),
        open_models({"A": "zebra"}, own),
    ):
        pass


def test_a_channel_has_its_own_engine(microscope, keep, monkeypatch):
    """Two models in one run; each frame says which it was."""

    class Other(FakeEngine):
        def refocus(self, frame):
            return frame // 2

    other = Other()
    monkeypatch.setattr("refocus.engine.by_channel.open_engine", lambda model, **how: other)
    selection = Selection(channels={"DAPI": "auto", "BF": "torch"})
    with attach(
        microscope.core, engine=FakeEngine(), sinks=[keep], selection=selection, queue=9
    ) as live:
        microscope.core.mda.run(loops(2, channels=CHANNELS))
    assert live.stats.check().published == 4
    for result in keep.results:
        pixels = result.captured.pixels
        expected = np.invert(pixels) if result.captured.channel == "DAPI" else pixels // 2
        np.testing.assert_array_equal(result.pixels, expected)
        assert result.engine is not None
    assert other.closed


def test_another_pixel_size_is_resampled_and_told_once(microscope, keep, caplog):
    class Trained(FakeEngine):
        """An engine with a model for pixels of half the size."""

        shapes = set()  # noqa: RUF012

        @property
        def info(self):
            optics = Optics(pixel_size_um=microscope.core.getPixelSizeUm() / 2)
            card = ModelCard(
                name="half",
                version="1",
                architecture="compact",
                optics=optics,
                defocus_um=(-10, 10),
                training_data="",
                licence="",
            )
            return EngineInfo("fake", "none", "exact", card)

        def refocus(self, frame):
            self.shapes.add(frame.shape)
            return super().refocus(frame)

    with attach(microscope.core, engine=Trained(), sinks=[keep], queue=9) as live:
        microscope.core.mda.run(loops(3))
    assert live.stats.check().published == 3
    assert Trained.shapes == {(192, 192)}
    assert all(result.pixels.shape == (96, 96) for result in keep.results)
    assert sum("frames are resampled" in r.getMessage() for r in caplog.records) == 1
