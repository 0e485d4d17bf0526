// One TCP client: start-up, then its messages one by one to the database whose session it holds.
import * as wire from './wire.mjs'

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102
const COPY_FROM_STDIN = /^\s*copy\b[\s\S]*\bfrom\s+stdin\b/i
// What clients expect to be told at the start.
const REPORTED = ['server_version', 'server_encoding', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'integer_datetimes', 'standard_conforming_strings']
// The engine does not tell when a client sets one of these.
const SET_STYLE = /^\s*set\s+(datestyle|intervalstyle|timezone)\b/i

export class Session {
  #socket
  #find
  #queueMs
  #database
  #status = 'I'
  #chunks
  #held = Buffer.alloc(0)

  constructor(socket, find, queueMs) {
    this.#socket = socket
    this.#chunks = socket[Symbol.asyncIterator]()
    this.#find = find
    this.#queueMs = queueMs
  }

  async run() {
    let release
    try {
      const parameters = await this.#startup()
      if (parameters === undefined) return
      this.#database = this.#find(parameters.database ?? parameters.user)
      if (this.#database === undefined) {
        this.#refuse('3D000', `database "${parameters.database}" does not exist`)
        return
      }
      release = await this.#database.acquire(this.#queueMs)
      await this.#open(parameters)
      while (await this.#serve()) { /* until the client says goodbye */ }
    } catch (error) {
      if (!this.#socket.destroyed) this.#refuse('57P03', error.message)
    } finally {
      // A client that died in a transaction must not leave it to the next one.
      if (release) await this.#database.reset().catch(() => {}).finally(release)
      this.#socket.end()
    }
  }

  #refuse(code, sentence) {
    this.#socket.write(wire.error('FATAL', code, sentence))
  }

  async #startup() {
    for (;;) {
      const length = (await this.#read(4))?.readInt32BE(0)
      if (length === undefined) return undefined
      const body = await this.#read(length - 4)
      if (body === undefined) return undefined
      const kind = body.readInt32BE(0)
      if (kind === SSL_REQUEST || kind === GSS_REQUEST) this.#socket.write('N')
      else if (kind === CANCEL_REQUEST) return undefined
      else return wire.startupParameters(body.subarray(4))
    }
  }

  async #open(parameters) {
    const settings = [...(parameters.options ?? '').matchAll(/-c\s*([\w.]+)=((?:\\.|\S)*)/g)].map(([, name, value]) => [name, value.replace(/\\(.)/g, '$1')])
    for (const name of ['client_encoding', 'application_name']) if (parameters[name]) settings.push([name, parameters[name]])
    await this.#database.reset()
    const statements = settings.map(([name, value]) => `SELECT set_config(${wire.quoteLiteral(name)}, ${wire.quoteLiteral(value)}, false)`)
    if (parameters.user !== 'postgres') statements.push(`SET SESSION AUTHORIZATION ${wire.quoteIdentifier(parameters.user)}`)
    for (const sql of statements) {
      const answer = await this.#database.send(wire.query(sql))
      if (answer[0] === 0x45) {
        this.#socket.write(answer)
        throw new Error(`start-up failed at: ${sql}`)
      }
    }
    this.#socket.write(wire.authenticationOk())
    for (const name of REPORTED) this.#socket.write(wire.parameterStatus(name, await this.#show(name)))
    this.#socket.write(wire.backendKeyData())
    this.#socket.write(wire.readyForQuery('I'))
  }

  async #show(name) {
    const answer = await this.#database.send(wire.query(`SHOW ${name}`))
    // RowDescription, then one DataRow: type, length, column count (2 bytes), value length, value.
    const row = 1 + answer.readInt32BE(1)
    const size = answer.readInt32BE(row + 7)
    return answer.toString('utf8', row + 11, row + 11 + size)
  }

  // Serves one message; false when the client has gone.
  async #serve() {
    const head = await this.#read(5)
    if (head === undefined) return false
    const body = await this.#read(head.readInt32BE(1) - 4)
    if (body === undefined) return false
    const type = String.fromCharCode(head[0])
    if (type === 'X') return false
    // The engine would read the rows from a file that nobody filled.
    const statement = type === 'Q' ? body.toString('utf8') : type === 'P' ? body.toString('utf8', body.indexOf(0) + 1) : ''
    if (COPY_FROM_STDIN.test(statement)) {
      this.#socket.write(wire.error('ERROR', '0A000', 'COPY FROM STDIN is not served here: use INSERT'))
      if (type === 'Q') this.#socket.write(wire.readyForQuery(this.#status))
      return true
    }
    const answer = await this.#database.send(Buffer.concat([head, body]))
    this.#status = wire.lastStatus(answer) ?? this.#status
    const style = type === 'Q' && this.#status !== 'E' && SET_STYLE.exec(statement)
    if (style) this.#socket.write(wire.parameterStatus(REPORTED.find((name) => name.toLowerCase() === style[1].toLowerCase()), await this.#show(style[1])))
    if (answer.length > 0 && !this.#socket.write(answer)) await new Promise((resolve) => this.#socket.once('drain', resolve).once('close', resolve))
    return true
  }

  // Exactly so many bytes, or undefined when the client has gone.
  async #read(size) {
    while (this.#held.length < size) {
      const { value, done } = await this.#chunks.next()
      if (done) return undefined
      this.#held = this.#held.length === 0 ? value : Buffer.concat([this.#held, value])
    }
    const bytes = this.#held.subarray(0, size)
    this.#held = this.#held.subarray(size)
    return bytes
  }
}
