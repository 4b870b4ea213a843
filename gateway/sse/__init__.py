"""Reads and writes the event-stream format, without I/O: lines from bytes, events from lines, bytes from events."""

from gateway.sse.event import HEARTBEAT, Event, encode, encode_data
from gateway.sse.parser import END, EventTooLarge, Parser
from gateway.sse.splitter import LineSplitter

__all__ = ["END", "HEARTBEAT", "Event", "EventTooLarge", "LineSplitter", "Parser", "encode", "encode_data"]
