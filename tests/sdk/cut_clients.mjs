// An event client of npm before a wire that cuts, as `node - ADDRESS CUTS < cut_clients.mjs`, CUTS being a list of numbers
// as JSON. There is one question for each, all at once. The test puts a module with `ask` before these lines.
//
// One line of JSON is printed: [[events, cuts], ...], where the events are those that were shown after these cuts.
// What is drawn by lot for every stream is replaced in them.

globalThis.window ??= globalThis // for clients that were written for a browser
globalThis.document ??= { hidden: false, addEventListener() {}, removeEventListener() {} }

const [address, cuts] = process.argv.slice(2)
const outcomes = new Map()

async function cut(place) {
  const shown = []
  const show = (event) => shown.push([event.event ?? event.type, event.data.replace(/"[\w-]{22}"/g, '"LOT"')])
  await ask(`${address}/chat?cut=${place}`, 'Hi', show).catch((error) => shown.push(['error', String(error)]))
  const key = JSON.stringify(shown)
  outcomes.set(key, [...(outcomes.get(key) ?? []), place])
}

await Promise.all(JSON.parse(cuts).map(cut))
console.log(JSON.stringify([...outcomes].map(([shown, cuts]) => [JSON.parse(shown), cuts])))
process.exit()
