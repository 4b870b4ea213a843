// Tabs of this page tell each other which answer is arriving, so that a second one can watch it, too.
//
// The address of an answer holds a ticket. It goes from tab to tab of one browser by a channel of this origin alone: it
// is in no address bar, in no history, and nothing of it is stored.

const channel = new BroadcastChannel('playground')

/** Tells the other tabs what `arriving()` gives, `{id, question, records}` or null: now, and whenever one asks. */
export function tellTabs(arriving) {
  const tell = () => arriving() && channel.postMessage({ type: 'arriving', answer: arriving() })
  channel.addEventListener('message', ({ data }) => data.type === 'who' && tell())
  return { tell, over: (id) => channel.postMessage({ type: 'over', id }) }
}

/** Calls `show(answers)` with what arrives in other tabs, whenever that changes. */
export function hearTabs(show) {
  const answers = new Map()
  channel.addEventListener('message', ({ data }) => {
    if (data.type === 'arriving') answers.set(data.answer.id, data.answer)
    else if (data.type !== 'over' || !answers.delete(data.id)) return
    show([...answers.values()])
  })
  channel.postMessage({ type: 'who' })
}
