"""What the engine says, as the window needs it: its statistics in the window's words, and its events, each once."""

from dataclasses import dataclass

from engine.live import LiveEngine
from gui.journal import Journal
from gui.state import Report
from gui.translation import report_of

NOTES_EVERY = 5
REFUSED = "avatar refused"  # the engine's event for a back end that it does not take, too


@dataclass(frozen=True)
class Heard:
    """One look at the engine. `refused`: why it did not take an avatar or back end since the last look."""

    report: Report
    refused: str = ""


class Listening:
    """Writes the journal as it listens."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._looks = 0
        self._engine: LiveEngine | None = None
        self._until_s = -1.0

    def hear(self, engine: LiveEngine) -> Heard:
        """What is new."""
        if engine is not self._engine:
            self._engine, self._until_s = engine, -1.0  # another engine's clock begins anew
        statistics = engine.statistics()
        report, refused = report_of(statistics), ""
        self._looks += 1
        if self._looks % NOTES_EVERY == 0:
            self._journal.record(report)
        for event in statistics.events:
            if event.at_s > self._until_s:
                self._until_s = event.at_s
                self._journal.note(f"{event.kind}: {event.text}")
                refused = event.text if event.kind == REFUSED else refused
        return Heard(report, refused)
