"""OpenAI's Responses API over the chat API: `request` and `items` translate what is asked, `events` what is answered.
`places` knows where responses are that an upstream has made itself, which are not translated.

https://platform.openai.com/docs/api-reference/responses
"""
