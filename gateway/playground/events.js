// Reads an event stream from the body of a `fetch`, for which browsers have no reader of their own.

/** The events of a body, wherever it was cut: https://html.spec.whatwg.org/multipage/server-sent-events.html */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = '', afterCR = false, type = '', data = [], lastEventId = ''
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      const text = afterCR ? read.value.replace(/^\n/, '') : read.value // the LF of a CRLF that was cut in two
      afterCR = read.value.endsWith('\r')
      const lines = (rest + text).split(/\r\n|\n|\r/)
      rest = lines.pop()
      for (const line of lines) {
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)
        if (field === 'data') data.push(value)
        else if (field === 'event') type = value
        else if (field === 'id' && !value.includes('\0')) lastEventId = value
        else if (line === '') {
          if (data.length) yield { type: type || 'message', data: data.join('\n'), lastEventId }
          type = ''
          data = []
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}) // for a caller that has had enough; nothing where the body is at its end
  }
}
