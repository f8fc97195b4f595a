"""Bars: nothing where nobody looks, lines for a command, and in a notebook text when all is done."""

from __future__ import annotations

import re
from threading import Event, Thread

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from tqdm.std import tqdm

from saturation import progress
from saturation.progress import bar, lines

CELLS = (
    "from saturation.progress import bar\nfor _ in bar(range(4), desc='recording'): pass",
    "with bar(total=3, desc='sweep', leave=True) as going:\n    going.update(3)",
    "for number in bar(range(5), desc='pruning'):\n    if number == 2: raise KeyboardInterrupt",
)


def test_a_bar_goes_through_what_it_is_given(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(bar([3, 1, 2], desc="recording")) == [3, 1, 2]
    with bar(total=2, desc="harm", progress=False) as going:
        going.update(2)
    assert capfd.readouterr() == ("", "")


def test_a_bar_that_nobody_sees_waits_for_no_other() -> None:
    """An interrupt can leave tqdm's lock taken by a thread for good; work without a bar goes on."""
    over, done = Event(), Event()

    def hold() -> None:
        with tqdm.get_lock():
            over.wait(60)

    def work() -> None:
        with bar(total=1, desc="generating", progress=False) as going:
            going.update()
        if list(bar([1], desc="recording")) == [1]:  # stderr is no terminal here
            done.set()

    holder, worker = Thread(target=hold), Thread(target=work)
    holder.start()
    worker.start()
    free = done.wait(20)
    over.set()
    holder.join()
    worker.join()
    assert free


def test_lines_come_when_they_are_due_and_say_how_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with lines(said.append), pytest.raises(KeyboardInterrupt):
        for number in bar(range(4), desc="recording"):
            if number == 2:
                raise KeyboardInterrupt
    plain = [re.sub(r"\d+ s", "_", line) for line in said]
    assert plain[:2] == ["recording: 1 of 4, 25%, _", "recording: 2 of 4, 50%, _"] and plain[-1].endswith(", stopped")
    said.clear()
    monkeypatch.setattr(progress, "EVERY", 60.0)
    with lines(said.append):
        going = bar(range(4), desc="recording")
        for number in going:
            going.set_postfix_str(f"text {number}")  # what is at work is no reason for a line
    list(bar(range(4), desc="recording"))
    assert said == []


def test_in_a_notebook_a_bar_leaves_or_ends_as_text() -> None:
    """As the file keeps it: a page without a kernel has no widget to show, and a bar saved as it began says 0 %."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [
        [output["data"] for output in cell.outputs if output.output_type == "display_data"] for cell in notebook.cells
    ]
    text = [[data.get("text/plain") for data in cell] for cell in shown]
    assert [[re.sub(r"\d+ s", "_ s", line) for line in cell] for cell in text] == [
        [""],
        ["sweep: 3 of 3, 100%, _ s"],
        ["pruning: 2 of 5, 40%, _ s, stopped"],
    ]
    assert all(set(data) == {"text/plain"} for cell in shown for data in cell)
