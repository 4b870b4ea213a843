"""OpenAI's Responses API over the chat API: `request` and `items` translate what is asked, `events` what is answered.

https://platform.openai.com/docs/api-reference/responses
"""
