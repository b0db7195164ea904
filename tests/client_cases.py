"""Runs the cases of ``tests/client_cases.json`` with the Python client, as ``tests/js/client_cases.test.js`` does."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microblog_rt.client import events
from microblog_rt.client.state import Machine

FILE = Path(__file__).with_suffix(".json")
TRANSPORTS = ["websocket", "longpoll", "poll"]


@dataclass
class Run:
    """A state machine at the time 0 with the settings of a case; performs its steps."""

    case: dict[str, Any]
    now: float = 0
    actions: list[dict[str, Any]] = field(default_factory=list)
    opened: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        transports = self.case.get("transports", TRANSPORTS)
        random = self.case.get("random", 0.5)
        self.machine = Machine(self.case.get("since", 1000.25), transports, random=lambda: float(random))

    def perform(self, step: dict[str, Any]) -> dict[str, Any]:
        """Perform one step; what a case expects of it: the actions and the state."""
        self.actions = []
        if "advance" in step:
            end = self.now + step["advance"]
            while self.machine.due is not None and self.machine.due <= end:
                self.now = self.machine.due
                self._handle(events.Tick())
            self.now = end
        each = event(step)
        if isinstance(each, events.OperationEvent):
            assert (each.id in self.opened) != step.get("late", False), f"operation {each.id} is not open"
            if not isinstance(each, events.Opened | events.Text):
                self.opened.discard(each.id)
        self._handle(each)
        return {"expect": self.actions, "state": self.machine.state}

    def _handle(self, each: events.Event) -> None:
        for action in self.machine.handle(each, self.now):
            if isinstance(action, events.Open):
                self.opened.add(action.id)
            if isinstance(action, events.Close):
                self.opened.remove(action.id)
            if shown := plain(action):
                self.actions.append(shown)


def event(step: dict[str, Any]) -> events.Event:
    """The event of a step."""
    match step:
        case {"do": "start"}:
            return events.Start()
        case {"do": "pause"}:
            return events.Pause()
        case {"do": "wake"}:
            return events.Wake(step.get("network_changed", False))
        case {"merge": notifications}:
            return events.Merge([events.notification(each) for each in notifications])
        case {"opened": number}:
            return events.Opened(number, step.get("headers", {}))
        case {"text": text, "on": number}:
            return events.Text(number, text)
        case {"close": code, "on": number}:
            return events.Closed(number, code, step.get("reason", ""))
        case {"status": status, "on": number}:
            return events.Response(number, status, step.get("headers", {}), step.get("body", ""))
        case {"fail": number}:
            return events.Failed(number)
    return events.Tick()


def plain(action: events.Action) -> dict[str, Any] | None:
    """An action as in the file; None for what the file does not contain."""
    match action:
        case events.Open():
            shown = {"open": action.transport, "since": action.since}
            return shown if action.hold is None else shown | {"hold": action.hold}
        case events.Send(number, text):
            return {"send": json.loads(text), "on": number}
        case events.Close(number):
            return {"close": number}
        case events.Apply(notifications):
            return {"apply": [each._asdict() for each in notifications]}
        case events.Stop(status):
            return {"stop": status}
    return None


def load(kind: str = "cases") -> list[dict[str, Any]]:
    """The cases of a kind; by default those of the state machine."""
    cases = json.loads(FILE.read_text())[kind]
    assert isinstance(cases, list)
    return cases
