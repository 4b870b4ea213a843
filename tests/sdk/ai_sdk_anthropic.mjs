// Anthropic's provider of the Vercel AI SDK, as `node - ADDRESS < ai_sdk_anthropic.mjs`: one answer with a tool, whose
// result is sent back, is streamed to its end. What came of it is printed as one line of JSON.

import { createAnthropic } from '@ai-sdk/anthropic'
import { jsonSchema, stepCountIs, streamText, tool } from 'ai'

const [address] = process.argv.slice(2)
const provider = createAnthropic({ baseURL: address, apiKey: 'none' })
const result = { text: '', thinking: '', calls: [], finish: null, tokens: null, error: null, warnings: [] }
const schema = { type: 'object', properties: { city: { type: 'string' } } }
const weather = tool({ inputSchema: jsonSchema(schema), execute: async () => '21' })

const answer = streamText({
  model: provider('m-1'), prompt: 'Hi', tools: { weather }, stopWhen: stepCountIs(2), maxOutputTokens: 64,
  maxRetries: 0, onError() {},
})
try {
  for await (const part of answer.fullStream) {
    if (part.type === 'text-delta') result.text += part.text
    if (part.type === 'reasoning-delta') result.thinking += part.text
    if (part.type === 'tool-call') result.calls.push([part.toolName, part.input])
    if (part.type === 'error') result.error = String(part.error?.message ?? part.error)
    if (part.type === 'start-step') result.warnings.push(...part.warnings.map((one) => one.message ?? one.details ?? one.type))
    if (part.type === 'finish') {
      result.finish = part.finishReason
      result.tokens = part.totalUsage.totalTokens
    }
  }
} catch (error) {
  result.error ??= String(error)
}
console.log(JSON.stringify(result))
