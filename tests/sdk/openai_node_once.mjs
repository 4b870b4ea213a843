// The official JavaScript client before connections that break, as `node - ADDRESS OPTIONS QUESTION ASKED
// < openai_node_once.mjs`, the last three as JSON. Each of ASKED is {"query", "key"}, and all are asked at once. Where the
// client gives up, the question is asked again with the same key, as an application would. With no key the client has to
// draw one itself.
//
// One line of JSON is printed: for each of ASKED [text, finish reason, how often the application asked].

import OpenAI from 'openai'

const [address, options, question, asked] = process.argv.slice(2)

class KeyedOpenAI extends OpenAI {
  idempotencyHeader = 'Idempotency-Key'
}

const { drawsKeys, ...rest } = JSON.parse(options)
const client = new (drawsKeys ? KeyedOpenAI : OpenAI)({ baseURL: address, apiKey: 'none', ...rest })
const body = { model: 'm-1', messages: [{ role: 'user', content: 'Hi' }], ...JSON.parse(question) }

async function read({ query, key }) {
  const headers = { Connection: 'close', ...(key && { 'Idempotency-Key': key }) } // the wire lets none be used twice
  const answer = await client.chat.completions.create(body, { query, headers })
  if (!body.stream) return [answer.choices[0].message.content, answer.choices[0].finish_reason]
  let text = '', finish = null
  for await (const chunk of answer) {
    text += chunk.choices[0]?.delta.content ?? ''
    finish ??= chunk.choices[0]?.finish_reason ?? null
  }
  return [text, finish]
}

async function ask(one) {
  for (let times = 1; ; times++) {
    try {
      const [text, finish] = await read(one)
      if (finish) return [text, finish, times]
    } catch (error) {
      if (times === 3) return [String(error), null, times]
    }
  }
}

console.log(JSON.stringify(await Promise.all(JSON.parse(asked).map(ask))))
process.exit()
