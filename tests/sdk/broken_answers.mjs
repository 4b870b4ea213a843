// What a user of a JavaScript client is told of an answer, as `node - ADDRESS CLIENT < broken_answers.mjs`. It is printed
// as one line of JSON: `told` holds each error that the client threw, rejected with, or gave out as a part.

import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { streamText, tool } from 'ai'
import OpenAI from 'openai'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'

const [address, client] = process.argv.slice(2)
const result = { told: [], text: '', finish: null }
const tell = (error) => result.told.push(String(error?.message ?? error))
process.on('uncaughtException', tell) // rejections that nobody handles come here, too

const openai = new OpenAI({ baseURL: address, apiKey: 'none', maxRetries: 0, timeout: 5000 })
const question = { model: 'm-1', messages: [{ role: 'user', content: 'Hi' }] }
const weather = tool({ inputSchema: z.object({ city: z.string() }) })

const CLIENTS = {
  async openai() {
    for await (const chunk of await openai.chat.completions.create({ ...question, stream: true })) {
      result.text += chunk.choices[0]?.delta.content ?? ''
      result.finish ??= chunk.choices[0]?.finish_reason ?? null
    }
  },

  // By the client's own helper, which puts the answer together.
  async 'openai helper'() {
    const stream = openai.chat.completions.stream(question)
    stream.on('chunk', (chunk) => { result.text += chunk.choices[0]?.delta.content ?? '' })
    result.finish = (await stream.finalChatCompletion()).choices[0].finish_reason
  },

  async 'ai sdk'() {
    const model = createOpenAICompatible({ name: 'gateway', baseURL: address, apiKey: 'none' }).chatModel('m-1')
    const answer = streamText({ model, prompt: 'Hi', tools: { weather }, maxRetries: 0, onError() {} })
    for await (const part of answer.fullStream) {
      if (part.type === 'text-delta') result.text += part.text
      if (part.type === 'error') tell(part.error)
      if (part.type === 'finish') result.finish = part.finishReason
    }
  },
}

await CLIENTS[client]().catch(tell)
await sleep(100) // for errors that come late
console.log(JSON.stringify(result))
process.exit()
