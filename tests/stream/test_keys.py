"""Keys that others could have put there."""

import os

import pytest

from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
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
