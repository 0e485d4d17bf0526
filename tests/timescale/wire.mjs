// The few pieces of the PostgreSQL protocol that are made here and not by the engine.

const int32 = (value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}
const text = (value) => Buffer.from(`${value}\0`)

const message = (type, ...parts) => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

export const query = (sql) => message('Q', text(sql))
export const authenticationOk = () => message('R', int32(0))
export const parameterStatus = (name, value) => message('S', text(name), text(value))
export const backendKeyData = () => message('K', int32(1), int32(1))
export const readyForQuery = (status) => message('Z', Buffer.from(status))

export const error = (severity, code, sentence) =>
  message('E', ...['S' + severity, 'V' + severity, 'C' + code, 'M' + sentence].map(text), Buffer.from([0]))

// The name-value pairs of a start-up message (after length and protocol number).
export const startupParameters = (body) => {
  const words = body.toString('utf8').split('\0')
  const parameters = {}
  for (let at = 0; at + 1 < words.length && words[at] !== ''; at += 2) parameters[words[at]] = words[at + 1]
  return parameters
}

// The types of the messages in an answer, with the status byte that a ReadyForQuery carries.
export const lastStatus = (answer) => {
  let status
  for (let at = 0; at + 5 <= answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    if (answer[at] === 0x5a) status = String.fromCharCode(answer[at + 5])
  }
  return status
}

export const quoteIdentifier = (name) => `"${name.replaceAll('"', '""')}"`
export const quoteLiteral = (value) => `'${value.replaceAll("'", "''")}'`
