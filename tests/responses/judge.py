"""Says whether a sequence of events is one that the Responses API documents: a small state machine of its own.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

import json
from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

LAST = {"response.completed", "response.incomplete", "response.failed"}


def read(data: bytes) -> list[Object]:
    """The events in a body. Each block is a type, which the data repeat, and the data."""
    assert not data or data.endswith(b"\n\n")
    events = []
    for block in data.split(b"\n\n")[:-1]:
        if block.startswith(b":"):
            continue
        first, second = block.split(b"\n")
        event = json.loads(second.removeprefix(b"data: "))
        assert first == b"event: " + event["type"].encode()
        events.append(event)
    return events


class Judge:
    def __init__(self) -> None:
        self.added: list[Object] = []  # by output index
        self.done: dict[int, Object] = {}
        self.parts: dict[int, list[Any]] = {}  # what the deltas of an item say, by its index
        self.open_parts: dict[int, str] = {}  # the text of the open part of an item
        self.is_over = False

    def judge(self, events: Sequence[Object]) -> Object:
        """The response of the last event."""
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[0]["type"] == "response.created"
        before = 3 if events[1]["type"] == "response.queued" else 2
        assert events[before - 1]["type"] == "response.in_progress"
        for event in events[before:-1]:
            getattr(self, "on_" + event["type"].removeprefix("response.").replace(".", "_"))(event)
        last = events[-1]
        assert last["type"] in LAST
        assert set(self.done) == set(range(len(self.added)))
        response: Object = last["response"]
        assert response["output"] == [self.done[index] for index in range(len(self.added))]
        assert (response["status"] == "completed") == (last["type"] == "response.completed")
        if response["status"] == "completed":
            assert {item["status"] for item in response["output"]} <= {"completed"}
        assert (response["error"] is not None) == (last["type"] == "response.failed")
        return response

    def on_output_item_added(self, event: Object) -> None:
        item, index = event["item"], event["output_index"]
        assert index == len(self.added)
        assert item["status"] == "in_progress"
        assert item["id"] not in [other["id"] for other in self.added]
        if item["type"] != "function_call":
            assert not item.get("content")
            assert not item.get("summary")
        else:
            assert item["arguments"] == ""
            assert item["call_id"]
        assert all(self.is_done(other) for other in range(index))
        self.added.append(item)
        self.parts[index] = []
        if item["type"] == "function_call":
            self.open_parts[index] = ""

    def is_done(self, index: int) -> bool:
        return index in self.done

    def on_output_item_done(self, event: Object) -> None:
        item, index = event["item"], event["output_index"]
        assert not self.is_done(index)
        if item["type"] == "function_call" and item["status"] == "incomplete":  # nobody is told that it is done
            self.parts[index].append(self.open_parts.pop(index))
        assert index not in self.open_parts
        assert item["id"] == self.added[index]["id"]
        assert item["status"] in ("completed", "incomplete")
        match item["type"]:
            case "message":
                assert item["content"] == self.parts[index]
                assert item["content"]
            case "reasoning":
                assert item["summary"] == self.parts[index]
                assert item["summary"]
            case "function_call":
                assert [item["arguments"]] == self.parts[index]
                assert item["name"] == self.added[index]["name"]
                if item["status"] == "completed":
                    assert isinstance(json.loads(item["arguments"].strip() or "{}"), dict)
        self.done[index] = item

    def at(self, event: Object) -> int:
        index: int = event["output_index"]
        assert event["item_id"] == self.added[index]["id"]
        assert not self.is_done(index)
        if "content_index" in event or "summary_index" in event:
            assert event.get("content_index", event.get("summary_index")) == len(self.parts[index])
        return index

    def begin_part(self, event: Object) -> None:
        index = self.at(event)
        assert index not in self.open_parts
        self.open_parts[index] = ""

    def delta(self, event: Object) -> None:
        assert event["delta"]
        self.open_parts[self.at(event)] += event["delta"]

    def check_text(self, event: Object, text: str) -> None:
        assert self.open_parts[self.at(event)] == text

    def end_part(self, event: Object) -> None:
        index = self.at(event)
        part = event["part"]
        assert part.get("text", part.get("refusal")) == self.open_parts.pop(index)
        self.parts[index].append(part)

    on_content_part_added = on_reasoning_summary_part_added = begin_part
    on_output_text_delta = on_refusal_delta = on_reasoning_summary_text_delta = delta
    on_function_call_arguments_delta = delta
    on_content_part_done = on_reasoning_summary_part_done = end_part

    def on_output_text_done(self, event: Object) -> None:
        self.check_text(event, event["text"])

    on_reasoning_summary_text_done = on_output_text_done

    def on_refusal_done(self, event: Object) -> None:
        self.check_text(event, event["refusal"])

    def on_function_call_arguments_done(self, event: Object) -> None:
        index = self.at(event)
        assert self.open_parts.pop(index) == event["arguments"]
        self.parts[index].append(event["arguments"])

    def on_output_text_annotation_added(self, event: Object) -> None:
        assert event["annotation"]["type"] == "url_citation"
        assert self.at(event) in self.open_parts
