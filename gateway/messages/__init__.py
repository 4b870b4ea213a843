"""Anthropic's Messages API over chats.

What goes to the model's server is a chat request (`request`), and the entries of its answer become the blocks of a
message: as events (`events`), or as one object (`message`).
"""
