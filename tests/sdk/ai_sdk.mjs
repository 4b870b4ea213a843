// A chat model of the Vercel AI SDK, as `node - ADDRESS < ai_sdk.mjs`: one answer is streamed to its end. What came of it
// is printed as one line of JSON.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { streamText } from 'ai'

const [address] = process.argv.slice(2)
const provider = createOpenAICompatible({ name: 'gateway', baseURL: address, apiKey: 'none', includeUsage: true })
const result = { text: '', finish: null, tokens: null, error: null }

const answer = streamText({ model: provider.chatModel('m-1'), prompt: 'Hi', maxRetries: 0, onError() {} })
try {
  for await (const part of answer.fullStream) {
    if (part.type === 'text-delta') result.text += part.text
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
