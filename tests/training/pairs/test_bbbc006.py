"""BBBC006 from a web server on this machine, in the layout of the real one."""

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.configs.training import BBBC006Config, TrainConfig
from refocus.training.judging.samples import folder_samples
from refocus.training.pairs import bbbc006
from refocus.training.pairs.data import TrainingPairs

WELLS = ("a01", "a02", "b01", "b02", "p24")


def plane_archive(z: int) -> bytes:
    """Pack one plane as the site does: five wells, one site, two channels, LZW TIFFs."""
    packed = io.BytesIO()
    rng = np.random.default_rng(z)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for well in WELLS:
            for channel in (1, 2):
                guid = f"{rng.integers(1 << 32):08x}-aaaa-bbbb-cccc-{rng.integers(1 << 48):012x}"
                name = f"mcf-z-stacks-03212011_{well}_s1_w{channel}{guid}.tif"
                picture = io.BytesIO()
                pixels = rng.integers(0, 4096, (72, 80)).astype(np.uint16)
                tifffile.imwrite(picture, pixels, compression="lzw")
                archive.writestr(f"{bbbc006.plane_folder(z)}/{name}", picture.getvalue())
    return packed.getvalue()


class Site:
    """A web server of archives that can cut a connection."""

    def __init__(self) -> None:
        self.archives = {f"{bbbc006.plane_folder(z)}.zip": plane_archive(z) for z in (1, 5, 16, 32)}
        self.cut_after: int | None = None
        self.requests: list[tuple[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/bbbc/BBBC006/"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.rsplit("/", 1)[-1]
        wanted = request.headers.get("Range", "")
        self.requests.append((name, wanted))
        whole = self.archives.get(name)
        if whole is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(whole) - start))
        request.end_headers()
        sent = whole[start : self.cut_after]
        self.cut_after = None
        request.wfile.write(sent)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield site
    site.server.shutdown()
    site.server.server_close()
    thread.join()


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_planes_are_fetched_once_and_indexed(site: Site, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    bbbc006.fetch(tmp_path, [16, 1], site.url, lambda *what: told.append(what))
    assert files(tmp_path) == {bbbc006.plane_folder(1), bbbc006.plane_folder(16), "checksums.json"}
    images = bbbc006.index(tmp_path)
    assert len(images) == 2 * len(WELLS) * 2
    assert (images[0].well, images[0].site, images[0].channel, images[0].z) == ("a01", 1, 1, 1)
    sizes = [len(a) for name, a in site.archives.items() if name[-6:-4] in ("01", "16")]
    assert [have for _, have, total in told if have == total] == sizes
    bbbc006.fetch(tmp_path, [1, 16], site.url)
    assert len(site.requests) == 2


def test_a_broken_download_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.cut_after = 100_000
    with pytest.raises(RefocusError, match=r"cannot be fetched .*run the command again to go on"):
        bbbc006.fetch(tmp_path, [5], site.url)
    assert files(tmp_path) == {"BBBC006_v1_images_z_05.zip.part"}
    bbbc006.fetch(tmp_path, [5], site.url)
    assert [wanted for _, wanted in site.requests] == ["", f"bytes={bbbc006.CHUNK}-"]
    assert len(bbbc006.index(tmp_path)) == 10
    assert files(tmp_path) == {bbbc006.plane_folder(5), "checksums.json"}


def test_a_truncated_archive_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    name = f"{bbbc006.plane_folder(5)}.zip"
    whole = site.archives[name]
    site.archives[name] = whole[:-900]
    with pytest.raises(RefocusError, match=r"z_05\.zip: truncated or damaged"):
        bbbc006.fetch(tmp_path, [5], site.url)
    assert not files(tmp_path)
    damaged = bytearray(whole)
    damaged[3000:3020] = bytes(20)
    site.archives[name] = bytes(damaged)
    with pytest.raises(RefocusError, match=r"z_05\.zip: truncated or damaged"):
        bbbc006.fetch(tmp_path, [5], site.url)
    assert not files(tmp_path)


def test_an_archive_that_changed_is_refused(site: Site, tmp_path: Path) -> None:
    bbbc006.fetch(tmp_path, [1], site.url)
    folder = tmp_path / bbbc006.plane_folder(1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    site.archives[f"{folder.name}.zip"] = plane_archive(2)
    with pytest.raises(RefocusError, match=r"is not what .*checksums\.json recorded"):
        bbbc006.fetch(tmp_path, [1], site.url)
    assert files(tmp_path) == {"checksums.json"}


def test_a_plane_that_the_site_lacks_is_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match=r"z_07\.zip: cannot be fetched \(404"):
        bbbc006.fetch(tmp_path, [7], site.url)


def test_the_split_keeps_wells_together(site: Site, tmp_path: Path) -> None:
    bbbc006.fetch(tmp_path, [1, 5, 16, 32], site.url)
    config = BBBC006Config(folder=tmp_path, planes=[1, 5], folds=5, held_out=0)
    inside = bbbc006.training_fields(config)
    all_of_it = bbbc006.training_fields(config.model_copy(update={"held_out": None}))
    outside = {f.name for f in all_of_it} - {f.name for f in inside}
    assert (len(inside), len(outside)) == (4 * 2 * 2, 1 * 2 * 2)
    assert all("_a01_" in name for name in outside)
    assert not any("_a01_" in f.name for f in inside)
    assert {f.distance_um for f in inside} == {30.0, 22.0}
    one = config.model_copy(update={"channels": [2], "held_out": None})
    assert len(bbbc006.training_fields(one)) == 10
    frame, target = inside[0].read()
    assert frame.shape == target.shape == (72, 80)


def test_it_is_trained_on_and_judged_by_its_names(site: Site, tmp_path: Path) -> None:
    bbbc006.fetch(tmp_path, [1, 5, 16, 32], site.url)
    source = BBBC006Config(folder=tmp_path, planes=[1, 5])
    run = TrainConfig(name="b", training_data="b", size=64, steps=2, bbbc006=source)
    assert TrainingPairs(run)[1]["focus"][0] in (30, 22)
    focused = tmp_path / bbbc006.plane_folder(16)
    samples = folder_samples(tmp_path, focused, folder_per_plane=True, split=run)
    assert len(samples) == 3 * 2
    assert {(s.plane, s.distance_um) for s in samples} == {
        *(("z01", -30.0), ("z05", -22.0), ("z32", 32.0))
    }
    assert {s.channel for s in samples} == {"w1", "w2"}


def test_what_is_missing_is_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="run 'refocus-train fetch bbbc006 --output"):
        bbbc006.index(tmp_path)
    bbbc006.fetch(tmp_path, [1], site.url)
    with pytest.raises(RefocusError, match=r"z_16: missing; run .*--z 16"):
        bbbc006.training_fields(BBBC006Config(folder=tmp_path, planes=[1]))
