"""Anthropic's Messages API as the dialect of an upstream: https://platform.claude.com/docs/en/api/messages

Requests are composed as chat completions, for all targets alike. For such a target, the body is translated when it is
posted (`request`, `conversation`, `thinking`). Its answer becomes chunks of a chat completion (`answer`), which a
decoder of OpenAI's dialect takes (`openai`, `relay`). So all that is known about ends, errors, usage and other targets
holds without a second implementation, for each surface. An event takes 3 µs, of which OpenAI's dialect pays nothing.
"""
