"""The real page, in a browser: looking around, back, and closer, and keeping what was found."""

import numpy as np
import pytest
from PIL import Image

from .conftest import TOP, banner, screenshot, shows, text

pytestmark = pytest.mark.slow

FLAT = np.zeros((32, 32), np.uint16)


def judged(um, verdict="refocused"):
    return {
        "focus": {"distance_um": um, "sigma_um": 0.5},
        "trust": {"verdict": verdict, "share": 1.0, "score": 0.9},
    }


def test_the_grid_has_every_position_with_its_verdict(stream, watching, gradient, eventually):
    page = watching
    for p, um, verdict in [(0, 0.4, "in-focus"), (1, 21.5, "beyond")]:
        stream.frame(gradient(), gradient(), index={"p": p}, **judged(um, verdict))
        shows(page, 0)
    cells = page.locator("#grid button")
    eventually(lambda: cells.count() == 2)
    eventually(lambda: cells.nth(0).get_attribute("aria-pressed") == "true")
    assert cells.all_inner_texts() == ["left\n● 0.4", "right\n▲ 21.5"]
    assert cells.nth(1).get_attribute("aria-label") == (
        "right: too far from focus to restore, 21.5 µm from focus"
    )
    cells.nth(1).click()
    shows(page, 1)
    eventually(lambda: cells.nth(1).get_attribute("aria-pressed") == "true")
    stream.frame(gradient(), gradient(), index={"p": 0}, **judged(3.0))
    eventually(lambda: cells.nth(0).inner_text() == "left\n✓ 3.0")  # also where nobody looks
    shows(page, 1)


def test_positions_lie_as_on_the_plate_or_the_stage(watching):
    made = watching.evaluate(
        """async () => {
            const { arrange } = await import("./grid.js");
            const { wellsOf, judge, roundUp } = await import("./plate.js");
            const tiles = [[0, 0], [330, 0.2], [0, 330], [330.3, 330]];
            const marks = [["in-focus", 1], ["beyond", 30], ["new word", 4], ["blank"]];
            return [
                arrange(tiles.map(([x, y]) => ({ x, y }))),
                arrange([{}, {}, {}, {}, {}]),
                wellsOf(["B2", "P24_site", "B2_0001", "B02 again"]),
                [["A1", "left"], ["A0"], ["Q1"], ["A123"]].map(wellsOf),
                judge(marks.map(([verdict, um]) => ({ verdict, um }))),
                judge([{ verdict: "refocused", um: 2 }, { verdict: "in-focus", um: 1 }]),
                [0, 0.3, 21.5, 60, 61].map(roundUp),
            ];
        }"""
    )
    assert made == [
        [[0, 0], [0, 1], [1, 0], [1, 1]],
        [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0]],
        [
            {"name": "B2", "row": 1, "column": 1, "fields": [0, 2, 3]},
            {"name": "P24", "row": 15, "column": 23, "fields": [1]},
        ],
        [None, None, None, None],
        {"um": 4, "verdict": "beyond"},
        {"um": 1.5, "verdict": "refocused"},
        [1, 1, 30, 60, 80],
    ]


def test_a_plate_has_its_shape_and_each_well_its_distance_and_worst_verdict(
    stream, watching, gradient, eventually
):
    page = watching
    names = [f"{row}{column}_{field}" for row in "BC" for column in (2, 3) for field in (0, 1)]
    stream.run("a plate", tuple(names))
    seen = [
        (0, 1.0, "in-focus"),
        (1, 3.0, "refocused"),
        (2, 10.0, "refocused"),
        (3, 28.0, "beyond"),
    ]
    for p, um, verdict in seen:
        stream.frame(gradient(), gradient(), index={"p": p}, **judged(um, verdict))
    wells = page.locator("#plate button")
    eventually(lambda: wells.count() == 4)
    eventually(lambda: wells.nth(1).get_attribute("data-verdict") == "beyond")
    assert not page.locator("#grid").is_visible()
    assert page.locator("#plate span").all_inner_texts() == ["A", "B", "C", "1", "2", "3"]
    assert wells.all_inner_texts() == ["2", "19", "", ""]
    assert [well.get_attribute("aria-label") for well in wells.all()] == [
        "B2 (2 of 2 fields): 2.0 µm from focus, at worst refocused",
        "B3 (2 of 2 fields): 19.0 µm from focus, at worst too far from focus to restore",
        "C2: nothing yet",
        "C3: nothing yet",
    ]
    assert wells.nth(2).is_disabled()
    parts = [well.evaluate("e => e.style.getPropertyValue('--part')") for well in wells.all()[:2]]
    assert parts == ["0.100", "0.950"]
    assert text(page, "plate-far") == "20 µm"
    boxes = [well.bounding_box() for well in wells.all()]
    assert boxes[0]["y"] == boxes[1]["y"] < boxes[2]["y"]
    assert boxes[0]["x"] == boxes[2]["x"] < boxes[1]["x"]
    for shown in (2, 3, 2):  # a well, its next field, and the first again
        wells.nth(1).click()
        shows(page, shown)
        eventually(lambda: wells.nth(1).get_attribute("aria-pressed") == "true")


def test_distance_over_time_and_an_alarm(stream, watching, gradient, eventually):
    page = watching
    tiles = {"side_px": 32, "rows": 2, "columns": 2, "share_percent": [100] * 4}
    tiles["distance_um"] = [1.0, 2.0, 3.0, 6.5]
    for number, um in enumerate([1.0, 11.0, 12.0, 13.5]):
        stream.frame(gradient(), gradient(), tiles=tiles, **judged(um))
        shows(page, number)
    chart = page.locator("#focus-time")
    eventually(lambda: "13.5 µm here" in (chart.get_attribute("aria-label") or ""))
    assert text(page, "focus-place") == "left DAPI"
    assert text(page, "focus-range") == "1.0 to 6.5 µm"
    assert banner(page, "focus").count() == 0
    limit = page.locator("#focus-limit")
    limit.fill("far")
    limit.press("Enter")
    assert "not a distance" in text(page, "focus-note")
    limit.fill("10,5")
    limit.press("Enter")
    told = banner(page, "focus")
    told.wait_for()
    assert "left DAPI (13.5 µm)" in told.inner_text()
    assert text(page, "focus-note") == ""
    stream.frame(gradient(), gradient(), tiles=tiles, **judged(2.0))
    told.wait_for(state="detached")
    limit.fill("")
    limit.press("Enter")
    for _ in range(3):  # too far to restore alarms whatever the limit
        stream.frame(gradient(), gradient(), index={"p": 1}, **judged(30.0, "beyond"))
    told.wait_for()
    assert "right DAPI" in told.inner_text()


def test_back_through_the_last_frames_and_live_again(stream, watching, eventually):
    page = watching
    for number in range(4):
        stream.frame(FLAT + 100 * number, FLAT)
        shows(page, number)
    stream.frame(FLAT, FLAT, index={"p": 1})  # of another place: not among them
    eventually(lambda: page.locator("#history-slider").get_attribute("max") == "3")
    page.locator("#picture").click()
    page.keyboard.press(",")
    shows(page, 2)
    page.keyboard.press(",")
    shows(page, 1)
    eventually(lambda: "2 of 4" in text(page, "history-when"))
    assert "earlier, " in text(page, "stand")
    stream.frame(FLAT + 7, FLAT)
    eventually(lambda: "2 of 5" in text(page, "history-when"))
    shows(page, 1)
    page.locator("#history-slider").fill("0")
    shows(page, 0)
    page.get_by_role("button", name="Live").click()
    shows(page, 5)
    eventually(lambda: not page.locator("#stand").is_visible())
    stream.frame(FLAT + 8, FLAT)
    shows(page, 6)


@pytest.mark.parametrize("painter", ["canvas", "webgl"])
def test_channels_over_each_other(stream, viewer, page, painter, eventually):
    page.goto(f"http://{viewer[0]}/?painter={painter}")
    page.locator("#link[data-phase=idle]").wait_for()
    stream.run()
    left, top = FLAT.copy(), FLAT.copy()
    left[:, :16], top[:16] = TOP, TOP
    stream.frame(left, left, channel="DAPI", index={"c": 0})
    shows(page, 0)
    stream.frame(top, top, channel="FITC", index={"c": 1})
    stream.frame(top, top, channel="FITC", index={"c": 1, "p": 1})
    page.keyboard.press("5")
    eventually(lambda: page.locator("#legend").inner_text().split() == ["DAPI", "FITC"])

    def corners():
        """The colours in the middle of each quarter of the picture."""
        stream.stats()  # or the run would count as lost
        page.locator("#link[data-phase=running]").wait_for()
        page.wait_for_timeout(300)
        box = page.locator("#picture").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        by = min(box["width"], box["height"]) / 8
        shot = screenshot(page)
        signs = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
        return [tuple(shot[int(y + v * by), int(x + h * by)]) for h, v in signs]

    eventually(lambda: corners() == [(64, 255, 255), (0, 255, 0), (64, 96, 255), (0, 0, 0)])
    page.get_by_label("Colour of FITC").select_option("red")
    eventually(lambda: corners()[1] == (255, 32, 32))
    page.get_by_label("DAPI in the overlay").uncheck()
    eventually(lambda: corners() == [(255, 32, 32), (255, 32, 32), (0, 0, 0), (0, 0, 0)])
    # the contrast is that of the channel it names
    page.locator("#channels").get_by_role("button", name="FITC").click()
    eventually(lambda: text(page, "contrast-channel") == "FITC")
    stream.frame(left, left, channel="DAPI", index={"c": 0})
    page.get_by_role("button", name="By hand").click()
    page.locator("#contrast-high").fill(str(TOP))
    page.locator("#contrast-low").fill(str(TOP // 2))
    page.locator("#contrast-low").press("Enter")
    assert text(page, "contrast-channel") == "FITC"
    page.get_by_label("DAPI in the overlay").check()
    eventually(lambda: corners()[2] == (64, 96, 255))
    page.locator("#channels").get_by_role("button", name="DAPI").click()
    assert page.locator("#contrast-low").input_value() == "0.1"


def test_values_along_a_line(stream, watching, gradient, eventually):
    page = watching
    stream.frame(gradient(), np.invert(gradient()))
    shows(page, 0)
    page.get_by_role("button", name="Line").click()
    eventually(lambda: page.locator("#lines line").count() == 2)  # one over each picture
    assert text(page, "profile-range") == f"16.0 µm · {TOP - TOP * 48 // 63} to {TOP * 48 // 63}"
    box = page.locator("#picture").bounding_box()
    side = box["width"] / 2
    page.mouse.move(box["x"] + side / 2, box["y"] + box["height"] / 2 - 50)
    page.mouse.down()
    page.mouse.move(box["x"] + side / 2, box["y"] + box["height"] / 2 + 50, steps=3)
    page.mouse.up()
    values = text(page, "profile-range").split("·")[1].split(" to ")
    assert abs(int(values[0]) + int(values[1]) - TOP) < TOP / 30  # upright: one column
    values = page.evaluate(
        """async () => {
            const { along } = await import("./profile.js");
            return along([1, 2, 3, 4, 5, 6], 3, 2, [0.5, 0.5, 4.5, 0.5]);
        }"""
    )
    assert values == [1, 2, 3, None, None]
    page.keyboard.press("o")
    eventually(lambda: page.locator("#lines line").count() == 0)


def test_a_png_of_what_is_shown(stream, watching, tmp_path):
    page = watching
    stream.frame(FLAT + TOP, FLAT)
    shows(page, 0)
    page.get_by_role("button", name="Full").click()
    page.wait_for_timeout(300)
    with page.expect_download() as saved:
        page.keyboard.press("g")
    assert saved.value.suggested_filename == "refocus_first_frame000000_p0_DAPI.png"
    saved.value.save_as(tmp_path / "shown.png")
    shot = np.asarray(Image.open(tmp_path / "shown.png").convert("L"))
    box = page.locator("#picture").bounding_box()
    assert abs(shot.shape[1] - box["width"]) < 2
    middle = shot[shot.shape[0] // 2]
    quarter = shot.shape[1] // 4
    assert (middle[quarter], middle[3 * quarter]) == (0, 255)
    assert shot[10:36, 10:90].max() > 100  # the words are on it, too


def test_a_movie_of_what_is_shown(stream, watching, tmp_path):
    page = watching
    stream.frame(FLAT, FLAT)
    shows(page, 0)
    page.keyboard.press("m")
    assert page.locator("#movie").inner_text() == "Stop"
    for number in range(1, 6):
        stream.frame(FLAT + TOP // 5 * number, FLAT)
        shows(page, number)
        page.wait_for_timeout(200)
    with page.expect_download() as saved:
        page.keyboard.press("m")
    assert saved.value.suggested_filename.endswith(".webm")
    saved.value.save_as(tmp_path / "shown.webm")
    data = (tmp_path / "shown.webm").read_bytes()
    assert data.startswith(b"\x1a\x45\xdf\xa3")  # EBML
    assert len(data) > 1000
