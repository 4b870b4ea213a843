// Tabs of this page tell each other which answer is arriving, so that another tab can watch it, too.
//
// The address of an answer contains a ticket. Tabs send it over a channel of this origin, within one browser. It is in
// no address bar and no history, and it is not stored.

const channel = new BroadcastChannel('playground')

/** `arriving()` returns `{id, question, records}` or null. Other tabs get it when they ask, and at each `tell()`. */
export function tellTabs(arriving) {
  const tell = () => arriving() && channel.postMessage({ type: 'arriving', answer: arriving() })
  channel.addEventListener('message', ({ data }) => data.type === 'who' && tell())
  return { tell, over: (id) => channel.postMessage({ type: 'over', id }) }
}

/** Calls `show(answers)` whenever the answers that arrive in other tabs change. */
export function hearTabs(show) {
  const answers = new Map()
  channel.addEventListener('message', ({ data }) => {
    if (data.type === 'arriving') answers.set(data.answer.id, data.answer)
    else if (data.type !== 'over' || !answers.delete(data.id)) return
    show([...answers.values()])
  })
  channel.postMessage({ type: 'who' })
}
