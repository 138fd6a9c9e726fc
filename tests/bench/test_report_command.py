"""How the commands of the reports end."""

import argparse
from pathlib import Path

import pytest

from refocus.bench.report_command import count, run_report
from refocus.configs import RefocusError

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (None, 0, ""),
        (RefocusError("a.onnx: no such model"), 2, "a.onnx: no such model\n"),
        (FileNotFoundError(2, "No such file", "/a.png"), 2, "/a.png: No such file\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_what_a_user_can_mend_is_a_line_and_a_status(
    capsys: pytest.CaptureFixture[str], error: BaseException | None, status: int, line: str
) -> None:
    def main() -> None:
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as ended:
        run_report(main)
    assert (ended.value.code, capsys.readouterr().err) == (status, line)


@pytest.mark.parametrize("text", ["0", "-1", "one", "1.5", ""])
def test_no_count(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="give 1 or more"):
        count(text)


def test_every_report_ends_so() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in BENCH.glob("*.py")}
    ends = {name for name, text in texts.items() if text.endswith("    main()\n")}
    # one is the command itself, and the other needs napari
    assert ends == {"cli.py", "napari_picture.py"}
    assert sum(text.endswith("    run_report(main)\n") for text in texts.values()) > 10
