"""Keys that others could have put there."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.stream import keys
from refocus.stream.keys import make_keys
from refocus.stream.subscriber import subscribe


@pytest.mark.skipif(os.name == "nt", reason="has no such permissions")
@pytest.mark.parametrize("place", ["", "readers", "readers/reader.key", "publisher.key_secret"])
def test_a_folder_that_others_can_write_is_refused(tmp_path, place):
    previous = os.umask(0)  # whatever it is, keys are made for their owner
    try:
        make_keys(tmp_path / "keys")
    finally:
        os.umask(previous)
    ours, theirs = tmp_path / "keys" / "publisher", tmp_path / "keys" / "reader"
    with Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1) as publisher:
        subscribe(publisher.endpoint, keys=theirs).close()
    (ours / place).chmod(0o770)
    with pytest.raises(RefocusError, match=f"chmod -R go-w {ours}"):
        Publisher("tcp://127.0.0.1:*", keys=ours)
    theirs.chmod(0o707)
    with pytest.raises(RefocusError, match=f"chmod -R go-w {theirs}"):
        subscribe("tcp://127.0.0.1:1", keys=theirs)


@pytest.mark.skipif(os.name == "nt", reason="has no such permissions")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    ours, theirs = make_keys(tmp_path / "keys")
    for path in (*ours.rglob("*.key"), *theirs.glob("*.key")):
        path.chmod(0o644)  # what is public may be read
    with Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1) as publisher:
        subscribe(publisher.endpoint, keys=theirs).close()
    for folder, opened in (
        (ours, lambda: Publisher("tcp://127.0.0.1:*", keys=ours)),
        (theirs, lambda: subscribe("tcp://127.0.0.1:1", keys=theirs)),
    ):
        secret = folder / f"{folder.name}.key_secret"
        secret.chmod(mode)
        with pytest.raises(RefocusError, match=f"others can read .* chmod 600 {secret}"):
            opened()
        secret.chmod(0o600)
        opened().__exit__(None, None, None)


@pytest.mark.skipif(os.name == "nt", reason="has no such permissions")
@pytest.mark.parametrize("place", ["", "readers", "readers/reader.key", "publisher.key_secret"])
def test_keys_that_belong_to_another_user_are_refused(tmp_path, monkeypatch, place):
    made = tmp_path / "keys"
    ours, theirs = make_keys(made)
    if os.geteuid():  # only root gives files away
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    else:
        os.chown(ours / place, 65534, -1)  # who was here first, and can read the secret
        os.chown(theirs / "reader.key", 65534, -1)
    with pytest.raises(RefocusError, match="belongs to another user"):
        Publisher("tcp://127.0.0.1:*", keys=ours)
    with pytest.raises(RefocusError, match="belongs to another user"):
        make_keys(made, "second")
    with pytest.raises(RefocusError, match="belongs to another user"):
        subscribe("tcp://127.0.0.1:1", keys=theirs)
    assert not (made / "second").exists()


@pytest.mark.skipif(os.name == "nt", reason="links are not for everybody")
def test_a_link_that_leads_nowhere_is_named(tmp_path):
    ours, _ = make_keys(tmp_path / "keys")
    (ours / "readers" / "gone.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RefocusError, match=r"gone\.key: not readable: .*; mend it, or remove it"):
        Publisher("tcp://127.0.0.1:*", keys=ours)


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        ("publisher/publisher.key_secret", None, "no such key; run it with --keys DIR/publisher"),
        ("publisher/publisher.key_secret", "public-key", "holds no pair of keys"),
        ("publisher/publisher.key_secret", "public-key = {0}\nsecret-key = {0}", "holds no pair"),
        ("publisher/readers/reader.key", None, "nobody could read"),
        ("publisher/readers/reader.key", "", "holds no public key"),
        ("publisher/readers/reader.key", "public-key = {0}~", "holds no public key"),
        ("reader/reader.key_secret", "secret-key = {0}", "holds no pair of keys"),
        ("reader/publisher.key", "public-key = short", "holds no public key"),
        ("reader/publisher.key", None, "no such key; use the folder"),
    ],
)
def test_keys_that_cannot_be_right_are_refused_by_name(tmp_path, place, content, words):
    ours, theirs = make_keys(tmp_path)
    path = tmp_path / place
    path.unlink()
    if content is not None:
        path.write_text(content.format("a" * 40))
        path.chmod(0o600)
    with (
        pytest.raises(RefocusError, match=f"{path.parent}.*{words}"),
        Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1) as publisher,
    ):
        subscribe(publisher.endpoint, keys=theirs)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes")
def test_a_pipe_is_no_key_and_is_not_waited_for(tmp_path):
    ours, _ = make_keys(tmp_path)
    os.mkfifo(ours / "readers" / "pipe.key", 0o600)
    with pytest.raises(RefocusError, match=r"pipe\.key: is no file of a key"):
        Publisher("tcp://127.0.0.1:*", keys=ours)


def test_keys_survive_an_editor_of_windows(tmp_path):
    ours, theirs = make_keys(tmp_path)
    for path in (*ours.rglob("*.key*"), *theirs.glob("*.key*")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    with (
        Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1) as publisher,
        subscribe(publisher.endpoint, keys=theirs),
    ):
        assert publisher.wait_subscribers(1, 30)


def test_a_reader_whose_folder_was_taken_away_keeps_its_key(tmp_path):
    ours, theirs = make_keys(tmp_path)
    shutil.move(theirs, tmp_path / "taken")
    with pytest.raises(RefocusError, match=r"reader\.key: exists already"):
        make_keys(tmp_path)
    assert (ours / "readers" / "reader.key").read_bytes() == (
        tmp_path / "taken" / "reader.key"
    ).read_bytes()


def test_what_could_not_be_written_does_not_stand_in_the_way(tmp_path):
    ours, _ = make_keys(tmp_path)
    public = ours / "publisher.key"
    public.rename(tmp_path / "elsewhere")
    with pytest.raises(RefocusError, match="keys cannot be written"):
        make_keys(tmp_path, "second")
    (tmp_path / "elsewhere").rename(public)
    make_keys(tmp_path, "second")
    with pytest.raises(RefocusError, match="keys cannot be written: "):
        make_keys(tmp_path, "n" * 300)
    with pytest.raises(RefocusError, match="not a name"):
        make_keys(tmp_path, "Publisher")  # the same folder, on some disks


def test_a_publisher_whose_keys_were_half_written_is_made_anew(tmp_path, monkeypatch):
    def full(folder, name):
        Path(folder, f"{name}.key").write_text("")
        Path(folder, f"{name}.key_secret").write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("zmq.auth.create_certificates", full)
        with pytest.raises(RefocusError, match="keys cannot be written: "):
            make_keys(tmp_path)
    ours, _ = make_keys(tmp_path)
    with Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1):
        pass


def test_readers_stay_known_where_the_folder_cannot_be_listed(tmp_path, monkeypatch, caplog):
    ours, _ = make_keys(tmp_path)
    readers = keys._Readers(ours)
    (known,) = readers._known

    def busy(folder):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", busy)
    assert readers.callback("*", known)
    assert readers.callback("*", known)
    assert caplog.text.count("readers: not readable: ") == 1


def test_a_folder_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    def closed(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", closed)
    with pytest.raises(RefocusError, match=r"reader\.key_secret: not readable: .*use the folder"):
        subscribe("tcp://127.0.0.1:1", keys=tmp_path)
