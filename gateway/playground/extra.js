// The events `extra`: pictures, annotations, audio and all other fields that no other event has.
//
// A picture is shown if the event contains it as a data URL; the page requests none. A box contains all fields as JSON.

import { element } from './element.js'

const MOST_JSON = 20_000 // characters: nobody reads more, and audio alone may have megabytes
const MOST_OF_A_TEXT = 500 // characters of one text in the JSON, since longer texts are mostly data
const START_OF_TEXT = 100 // characters that are shown of a longer one
const START_OF_DATA = 40 // characters that are shown of a data URL: they name its type
const MOST_NAMES = 6 // names of fields in the summary
const MOST_PICTURES = 8
const LARGEST_PICTURE = 10_000_000 // characters, about 7 MB: more than image models send
const PICTURE = /^data:image\/(?:png|jpeg|webp|gif);base64,[a-z0-9+/]+={0,2}$/i

const OF_REASONING = /^(?:reasoning|thinking)_/
const NO_ANSWER = /^(?:annotations|citations|provider_specific_fields)$/ // they describe an answer

export class Extra {
  /** `pictures` is a list, and `box` a `details` element. Both are hidden while they are empty. */
  constructor(pictures, box) {
    Object.assign(this, { pictures, box, names: [], events: 0, json: '', cut: false, shown: [] })
    pictures.replaceChildren()
    box.querySelector('pre').replaceChildren()
    pictures.hidden = box.hidden = true
    box.open = false
  }

  /** Takes one event. Returns 'thinking' or 'answering', or null if the event does not tell. */
  take(data) {
    const fields = JSON.parse(data, (name, value) => (typeof value === 'string' ? this.text(value) : value))
    const names = Object.keys(fields)
    this.names = [...new Set([...this.names, ...names])].slice(0, MOST_NAMES + 1)
    this.events += 1
    this.append(`${JSON.stringify(fields, null, 2)}\n`)
    this.sum()
    if (names.every((name) => NO_ANSWER.test(name))) return null
    return names.every((name) => OF_REASONING.test(name)) ? 'thinking' : 'answering'
  }

  text(value) {
    if (value.length <= LARGEST_PICTURE && PICTURE.test(value)) this.show(value)
    const most = value.startsWith('data:') ? START_OF_DATA : MOST_OF_A_TEXT
    const start = value.slice(0, Math.min(most, START_OF_TEXT))
    return value.length > most ? `${start}… (${value.length} characters)` : value
  }

  show(address) {
    if (this.shown.length === MOST_PICTURES) return
    this.shown.push(address)
    const alt = `Picture ${this.shown.length} of the answer`
    this.pictures.append(element('li', {}, element('img', { src: address, alt })))
    this.pictures.hidden = false
  }

  append(json) {
    const taken = json.slice(0, MOST_JSON - this.json.length)
    this.cut ||= taken.length < json.length
    this.json += taken
    if (taken) this.box.querySelector('pre').append(taken)
  }

  sum() {
    const names = this.names.map((name, place) => (place < MOST_NAMES ? name.slice(0, 40) : '…')).join(', ')
    const parts = [names, this.events > 1 && `${this.events} events`, this.cut && 'too much to show all']
    this.box.querySelector('summary').textContent = `Also sent: ${parts.filter(Boolean).join(' · ')}`
    this.box.hidden = false
  }

  // A record of plain values outlives a reload

  record() {
    const { names, events, json, cut, shown } = this
    return events ? { names, events, json, cut, shown } : null
  }

  recall({ names, events, json, cut, shown }) {
    Object.assign(this, { names, events, cut })
    this.append(json)
    for (const address of shown) this.show(address)
    this.sum()
  }
}
