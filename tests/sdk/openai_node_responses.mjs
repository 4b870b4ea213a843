// OpenAI's JavaScript client and its Responses API, as `node - ADDRESS AFTER < openai_node_responses.mjs`: a response in
// the background is left behind event number AFTER, and resumed there. Then one is read with the client's own helper.
// What came of both is printed as one line of JSON.

import OpenAI from 'openai'

const [address, after] = process.argv.slice(2)
const client = new OpenAI({ baseURL: address, apiKey: 'none', maxRetries: 0, timeout: 5000 })
const asked = { model: 'm-1', input: 'Hi' }
const events = []

for await (const event of await client.responses.create({ ...asked, background: true, stream: true })) {
  events.push(event)
  if (event.sequence_number === Number(after)) break
}
const { id } = events[0].response
for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: Number(after) })) {
  events.push(event)
}
const stored = await client.responses.retrieve(id)
const final = await client.responses.stream(asked).finalResponse()
await client.responses.delete(id)
console.log(JSON.stringify({ events, stored: stored.output_text, text: final.output_text, tokens: final.usage.total_tokens }))
