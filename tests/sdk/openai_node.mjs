// One call of the official JavaScript client, as `node - ADDRESS ACTION OPTIONS REQUEST < openai_node.mjs`, the last two
// as JSON. What came of it is printed as one line of JSON.

import OpenAI from 'openai'
import { setTimeout as sleep } from 'node:timers/promises'

const [address, action, options, request] = process.argv.slice(2)
const client = new OpenAI({ baseURL: address, maxRetries: 0, timeout: 5000, ...JSON.parse(options) })
const question = { model: 'm-1', messages: [{ role: 'user', content: 'Hi' }], ...JSON.parse(request) }
const result = { text: '', finish: null, usage: null, error: null }

const ACTIONS = {
  async ask() {
    const answer = await client.chat.completions.create(question)
    result.text = answer.choices[0].message.content
    result.finish = answer.choices[0].finish_reason
    result.usage = answer.usage
  },

  async read() {
    for await (const chunk of await client.chat.completions.create({ ...question, stream: true })) {
      result.text += chunk.choices[0]?.delta.content ?? ''
      result.finish ??= chunk.choices[0]?.finish_reason
      result.usage ??= chunk.usage ?? null
    }
  },

  // By the client's own helper, which puts the answer together.
  async assemble() {
    const answer = await client.chat.completions.stream(question).finalChatCompletion()
    result.text = answer.choices[0].message.content
    result.finish = answer.choices[0].finish_reason
    result.calls = answer.choices[0].message.tool_calls?.map((call) => [call.function.name, call.function.arguments])
  },

  async abort() {
    const controller = new AbortController()
    const stream = await client.chat.completions.create({ ...question, stream: true }, { signal: controller.signal })
    for await (const chunk of stream) {
      result.text += chunk.choices[0].delta.content
      controller.abort()
    }
  },

  async models() {
    for await (const model of client.models.list()) result.text += `${model.id} `
    result.text += (await client.models.retrieve(question.model)).object
  },
}

try {
  await ACTIONS[action]()
} catch (error) {
  const { status, code, message, headers } = error
  result.error = { kind: error.constructor.name, status, code, message, retry_after: headers?.get('retry-after') }
}
console.log(JSON.stringify(result))
if (action === 'abort') await sleep(5000) // so that it is not the end of the process that closes the connection
