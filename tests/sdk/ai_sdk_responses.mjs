// A model of the Vercel AI SDK's default provider, which speaks the Responses API, as `node - ADDRESS < ai_sdk_responses.mjs`:
// one answer is streamed to its end. What came of it is printed as one line of JSON.

import { createOpenAI } from '@ai-sdk/openai'
import { jsonSchema, streamText, tool } from 'ai'

const [address] = process.argv.slice(2)
const provider = createOpenAI({ baseURL: address, apiKey: 'none' })
const result = { text: '', reasoning: '', calls: [], finish: null, tokens: null, error: null }
const weather = tool({ inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string' } } }) })

const model = provider('m-1')
const answer = streamText({ model, prompt: 'Hi', tools: { weather }, maxRetries: 0, onError() {} })
try {
  for await (const part of answer.fullStream) {
    if (part.type === 'text-delta') result.text += part.text
    if (part.type === 'reasoning-delta') result.reasoning += part.text
    if (part.type === 'tool-call') result.calls.push([part.toolName, part.input])
    if (part.type === 'error') result.error = String(part.error?.message ?? part.error)
    if (part.type === 'finish') {
      result.finish = part.finishReason
      result.tokens = part.totalUsage.totalTokens
    }
  }
} catch (error) {
  result.error ??= String(error)
}
console.log(JSON.stringify(result))
