// The questions that the page offers, and descriptions of the models of the demo upstream.

export const EXAMPLES = [
  'Hello! Who are you?',
  'What are server-sent events?',
  'Write a Python program that reads a stream.',
  '你好！请介绍一下你自己。',
]

const QUESTION = 'What are server-sent events?'

const MODELS = {
  'demo-flaky': 'Fails twice. Another model answers in its place.',
  'demo-rescued': 'Hangs up half way. Another model finishes the answer.',
  'demo-reasoning': 'Thinks aloud first. Its thoughts are folded away.',
  'demo-tools': 'Calls two tools. The pieces are put together.',
  'demo-refusal': 'Refuses. The page tells that from an answer.',
  'demo-clock': 'Sends a line a second, until you stop it.',
  'demo-slow': 'Is silent for eight seconds. Then it answers slowly.',
  'demo-stall': 'Falls silent half way. After a minute it is ended.',
  'demo-cut': 'Hangs up half way. The page says that it broke off.',
  'demo-error': 'Reports an error half way. What came is kept.',
  'demo-429': 'Is too busy. The failure says what to do.',
}

/** [model, explanation, question] for each of `names` that is a model of the demo. */
export function demos(names) {
  return names.filter((name) => MODELS[name]).map((name) => [name, MODELS[name], QUESTION])
}

export function explanation(name) {
  return MODELS[name] ?? ''
}
